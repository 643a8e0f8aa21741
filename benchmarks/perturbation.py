"""What a perturbed image costs, in forward passes of the same batch, measured in one run.

Usage: python benchmarks/perturbation.py [MODEL], on the embedded images. Ratios only: seconds depend on the machine.
"""

import torch
from _measure import passes, real_batch

from rapbench import attribute
from rapbench.core.precision import Precision
from rapbench.evaluation.answers import forward_of, table_of
from rapbench.heatmaps.summed import heatmaps_of
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.protocol import Protocol

BATCH = 8
SIGNS = ("positive", "negative")
OPTIONS: dict[str, dict[str, int]] = {"regions": {"steps": 10}}


def main() -> None:
    """Print the ratios as a table."""
    model, images, labels = real_batch(BATCH)
    forward = forward_of(model, Precision.fp32)
    with torch.inference_mode():
        clean = forward(images)

    def one() -> object:
        with torch.inference_mode():
            return forward(images)

    print(f"{model.facts.name}, {BATCH} images; cost of a perturbed image, in forward passes of the same batch")
    heatmaps = heatmaps_of(attribute(model, images, labels, "random"))
    ids = [str(number) for number in range(BATCH)]
    for name in protocols:
        protocol = protocols[name].function(**OPTIONS.get(name, {}))
        asked = protocol.asked(SIGNS) + protocol.asked_once()

        def job(protocol: Protocol = protocol) -> object:
            moments = model.transform.normalisation
            batch = Batch(images, labels, heatmaps, forward, lambda: clean, ids, 0, moments, BATCH)
            return table_of(batch, protocol, protocol.variants(SIGNS))

        if asked:
            print(f"  {name:22s} {passes(job, one, 5) / asked:6.2f}")


if __name__ == "__main__":
    main()
