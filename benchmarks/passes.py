"""What each method and each perturbation costs, in forward passes of the same batch, measured in one run.

Usage: python benchmarks/passes.py [MODEL], on the embedded images. Ratios only: seconds depend on the machine.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch
from PIL import Image

from rapbench import attribute, load_model
from rapbench.config import Precision
from rapbench.data.samples import samples
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.ranking import heatmaps_of, rank_pixels
from rapbench.runner.evaluate import forward_of, perturb_and_predict

BATCH = 8
KS: list[int | str] = [250, 500, 1000, 2000, 4000, "all"]


def passes(call: Callable[[], object], forward: Callable[[], object], repeats: int) -> float:
    """Return how many forward passes a call costs: both warmed up, timed in turns, medians compared."""
    times: dict[Callable[[], object], list[float]] = {forward: [], call: []}
    for repeat in range(repeats + 1):
        for function, found in times.items():
            start = time.perf_counter()
            function()
            if repeat:
                found.append(time.perf_counter() - start)
    return statistics.median(times[call]) / statistics.median(times[forward])


def main() -> None:
    """Print the ratios as a table."""
    name = sys.argv[1] if len(sys.argv) > 1 else "resnet50_keras"
    model = load_model(name).to(memory_format=torch.channels_last)
    dataset = samples()
    chosen = dataset.samples[:BATCH]
    images = torch.stack([model.transform(Image.open(dataset.root / sample.file)) for sample in chosen])
    images = images.contiguous(memory_format=torch.channels_last)
    labels = torch.tensor([sample.label for sample in chosen])
    forward = forward_of(model, Precision.fp32)
    with torch.inference_mode():
        clean = forward(images)

    def one() -> object:
        with torch.inference_mode():
            return forward(images)

    print(f"{name}, {BATCH} images; cost in forward passes of the same batch")
    ranking = rank_pixels(heatmaps_of(attribute(model, images, labels, "random")), "positive")
    for protocol in protocols:
        if protocols[protocol].facts["kind"] == "perturbation":
            perturb = protocols[protocol].function

            def job(perturb: Callable[..., torch.Tensor] = perturb) -> object:
                return perturb_and_predict(
                    forward, perturb, images, labels, clean, ranking, KS, lambda row, k: row, BATCH
                )

            print(f"  {protocol:22s} {passes(job, one, 5) / len(KS):6.2f} a perturbed image")
    for method in methods:

        def explain(method: str = method) -> object:
            return attribute(model, images, labels, method)

        print(f"  {method:22s} {passes(explain, one, 3 if methods[method].facts['passes'] < 50 else 1):6.1f} an image")


if __name__ == "__main__":
    main()
