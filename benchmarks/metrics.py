"""What each protocol costs an image, in forward passes of the same batch, and what Quantus takes for its metric.

Usage: python benchmarks/metrics.py [MODEL [IMAGES [PROTOCOL ...]]], by default efficientnet_lite0, 2 and all, on the
embedded images with two threads. Ratios only, of one run: for a first method, which pays what all methods share, and
for a second one. Protocols that recompute heatmaps are not measured. Quantus stands beside where it is
installed and has the metric, with the same numbers of subsets and draws.
"""

import sys
import time
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from typing import Any

import torch
from _measure import Call, real_batch

from rapbench import attribute
from rapbench.core.precision import Precision
from rapbench.evaluation.answers import forward_of, table_of
from rapbench.heatmaps.summed import heatmaps_of
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.protocol import Protocol

SIGNS = ("positive", "negative")
QUIET = {"abs": False, "normalise": False, "disable_warnings": True, "display_progressbar": False}
QUANTUS: dict[str, Callable[[Any], Any]] = {
    "faithfulness_correlation": lambda quantus: quantus.FaithfulnessCorrelation(
        nr_runs=100, subset_size=224, perturb_baseline=0.0, return_aggregate=False, **QUIET
    ),
    "deletion": lambda quantus: quantus.PixelFlipping(features_in_step=1568, perturb_baseline=0.0, **QUIET),  # 96 steps
    "sparseness": lambda quantus: quantus.Sparseness(**QUIET | {"abs": True}),
    "complexity": lambda quantus: quantus.Complexity(**QUIET | {"abs": True}),
}


def main(name: str = "efficientnet_lite0", images: str = "2", *wanted: str) -> None:
    """Print the ratios as a table."""
    torch.set_num_threads(2)
    sys.argv[1:] = [name]
    model, inputs, labels = real_batch(int(images))
    forward = forward_of(model, Precision.fp32)
    with torch.inference_mode():
        clean = forward(inputs)
    heatmaps = heatmaps_of(attribute(model, inputs, labels, "gradient_x_input"))
    ids = [str(number) for number in range(len(inputs))]
    masks = torch.ones_like(heatmaps, dtype=torch.bool)

    def one() -> object:
        with torch.inference_mode():
            return forward(inputs)

    print(f"{model.facts.name}, {len(inputs)} images; time an image, in forward passes of the same batch")
    print(f"  {'':26s} {'first':>8s} {'further':>8s} {'Quantus':>8s}")
    for label in wanted or protocols:
        protocol = protocols[label].function()
        if protocol.recomputed():
            continue
        costs: list[float] = []
        shared: dict[Hashable, Any] = {}
        for _ in range(2):

            def job(protocol: Protocol = protocol, shared: dict[Hashable, Any] = shared) -> object:
                moments = model.transform.normalisation
                batch = Batch(inputs, labels, heatmaps, forward, lambda: clean, ids, 0, moments, len(inputs), shared,
                              masks)  # fmt: skip
                return table_of(batch, protocol, protocol.variants(SIGNS))

            costs.append(timed(job, one))
        peer = ""
        if label in QUANTUS and find_spec("quantus"):
            import quantus

            metric = QUANTUS[label](quantus)

            def theirs(metric: Any = metric) -> object:
                return metric(model=model.network, x_batch=inputs.numpy(), y_batch=labels.numpy(), channel_first=True,
                              a_batch=heatmaps[:, None].numpy().copy(), softmax=False)  # fmt: skip

            peer = f"{timed(theirs, one):8.2f}"
        print(f"  {label:26s} {costs[0]:8.2f} {costs[1]:8.2f} {peer:>8s}", flush=True)


def timed(call: Call, forward: Call) -> float:
    """Return how many forward passes a single call costs: what is kept for later calls counts in the first."""
    forward()
    return _seconds(call) / min(_seconds(forward) for _ in range(5))


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main(*sys.argv[1:])
