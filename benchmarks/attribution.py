"""What each method costs, in forward passes of the same batch and in the memory of one, measured in one run.

Usage: python benchmarks/attribution.py [MODEL [METHOD ...]], on the embedded images. Ratios only: seconds depend on the
machine. Of methods that take hundreds of passes a part is measured, of one image, and multiplied: see PARTS.
Memory is the call's peak over what a forward pass leaves for a backward pass: 1.0 is to keep every activation. Beside
the LRP methods: zennit as its own manual has it, with its own canonizer, on the residual networks that it knows.
"""

import sys
from collections.abc import Iterator
from typing import Any

import torch
from _measure import Call, passes, peak_bytes, real_batch
from torch import Tensor, nn
from torchvision.models import ResNet
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Norm, Pass, ZPlus
from zennit.torchvision import ResNetCanonizer, VGGCanonizer
from zennit.types import Activation, AvgPool, Convolution

from rapbench import RapbenchError, attribute
from rapbench.methods import methods

BATCH = 8
# By method, the options with which it does a part of its work, and which part.
PARTS: dict[str, tuple[dict[str, Any], float]] = {
    "rise": ({"samples": 80}, 80 / 4000),
    "lime": ({"samples": 50}, 50 / 1000),
    "kernel_shap": ({"samples": 50}, 50 / 1000),
    "shapley_sampling": ({"samples": 1}, 1 / 25),
    "occlusion": ({"window": 32, "stride": 32}, 7**2 / 28**2),
    "score_cam": ({"layer": "conv1"}, 64 / 2048),  # of ResNet-50
}
ONE = (*PARTS, "deeplift_shap", "feature_ablation")  # measured on one image


def zennits_own(network: nn.Module, images: Tensor, labels: Tensor) -> Iterator[tuple[str, Call]]:
    """Yield LRP through zennit alone."""
    for name, rule in {"lrp_a1b0": ZPlus, "lrp_a2b1": AlphaBeta}.items():
        layer_map = [(Activation, Pass()), (Sum, Norm()), (AvgPool, Norm()), (Convolution, rule()), (nn.Linear, rule())]
        canonizer = ResNetCanonizer() if isinstance(network, ResNet) else VGGCanonizer()

        def call(layer_map: list[tuple[type, object]] = layer_map, canonizer: object = canonizer) -> object:
            x = images.clone().requires_grad_()
            with LayerMapComposite(layer_map, canonizers=[canonizer]).context(network) as modified:
                logits = modified(x).gather(1, labels[:, None])[:, 0]
                return torch.autograd.grad(logits, x, logits.detach())

        yield f"{name}, zennit alone", call


def main() -> None:
    """Print the ratios as a table."""
    model, images, labels = real_batch(BATCH)

    def forward() -> object:
        with torch.inference_mode():
            return model(images)

    calls: dict[str, Call] = {}
    chosen = sys.argv[2:]
    for method in chosen or methods:
        options, _ = PARTS.get(method, ({}, 1.0))

        def explain(
            method: str = method, options: dict[str, Any] = options, count: int = 1 if method in ONE else BATCH
        ) -> object:
            return attribute(model, images[:count], labels[:count], method, **options)

        calls[method] = explain
    if not chosen:
        calls |= dict(zennits_own(model.network, images, labels))
    kept = peak_bytes(lambda: model(images))
    print(f"{model.facts.name}, {BATCH} images")
    print(f"  {'':24s} {'time':>8s} {'memory':>8s}")
    for name, call in calls.items():
        slow = name in methods and methods[name].facts.passes > 50
        try:
            cost = passes(call, forward, 1 if slow else 5)
            cost *= (BATCH if name in ONE else 1) / PARTS.get(name, ({}, 1.0))[1]
        except RapbenchError as error:
            print(f"  {name:24s} refused: {str(error)[:90]} ...")
            continue
        print(f"  {name:24s} {cost:8.1f} {peak_bytes(call) / kept:8.2f}", flush=True)
    if chosen:
        return
    half = peak_bytes(lambda: attribute(model, images[: BATCH // 2], labels[: BATCH // 2], "rap"))
    print(f"rap's memory for {BATCH} images over that for {BATCH // 2}: {peak_bytes(calls['rap']) / half:.2f}")


if __name__ == "__main__":
    main()
