"""What a perturbed image costs, in forward passes of the same batch, measured in one run.

Usage: python benchmarks/perturbation.py [MODEL], on the embedded images. Ratios only: seconds depend on the machine.
"""

from collections.abc import Callable

import torch
from _measure import passes, real_batch

from rapbench import attribute
from rapbench.config import Precision
from rapbench.protocols import protocols
from rapbench.protocols.ranking import heatmaps_of, rank_pixels
from rapbench.protocols.regions import ORDERS, regions
from rapbench.runner.evaluate import forward_of, perturb_and_predict, replace_and_predict

BATCH = 8
STEPS = 10
KS: list[int | str] = [250, 500, 1000, 2000, 4000, "all"]


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
    ranking = rank_pixels(heatmaps, "positive")
    for protocol in protocols:
        if protocols[protocol].facts["kind"] == "perturbation":
            perturb = protocols[protocol].function

            def job(perturb: Callable[..., torch.Tensor] = perturb) -> object:
                return perturb_and_predict(
                    forward, perturb, images, labels, clean, ranking, KS, torch.arange(BATCH), BATCH
                )

            print(f"  {protocol:22s} {passes(job, one, 5) / len(KS):6.2f}")

    def replaced() -> object:
        seeds = torch.arange(BATCH)
        made = regions(images, heatmaps, seeds, steps=STEPS, normalisation=model.transform.normalisation)
        return [replace_and_predict(forward, made, order, list(range(STEPS + 1)), labels, clean, BATCH)
                for order in ORDERS]  # fmt: skip

    print(f"  {'regions':22s} {passes(replaced, one, 5) / STEPS / len(ORDERS):6.2f}")


if __name__ == "__main__":
    main()
