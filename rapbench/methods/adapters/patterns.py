"""The target logit taken back through other weights than those of the way forward."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.methods.adapters.target import target_logits
from rapbench.patterns.chain import chain
from rapbench.patterns.file import load
from rapbench.relevance.linear import apply


def propagate(
    model: nn.Module, inputs: Tensor, targets: Tensor, patterns: str | None, back: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Return the target logit times its gradient, computed with other weights; shaped like `inputs`.

    patterns: a file, or None, see patterns.file. back: (weight, pattern) -> the weight of the way back. ReLUs and
    maximum pooling let through what they let through on the way forward; average pooling shares.
    Patterns may multiply a signal beyond any number of its type: such an image comes back divided by a power of two.
    Raises RapbenchError for another kind of network and for patterns that are missing or made for other weights.
    """
    network = chain(model, inputs)
    found = load(model, network, patterns)
    exponents = torch.zeros(len(inputs), dtype=torch.int32, device=inputs.device)

    def call(name: str, x: Tensor) -> Tensor:
        layer: Any = network.layers[name]
        with torch.no_grad():
            value = layer(x)
        other = apply(layer, x, back(layer.weight.detach(), found[name]))
        instead: Tensor = _Instead.apply(value, other, exponents)
        return instead

    inputs = inputs.requires_grad_()
    with torch.enable_grad():
        logits = target_logits(network.run(inputs, call), targets)
        (signal,) = torch.autograd.grad(logits, inputs, grad_outputs=logits.detach())
    largest = math.frexp(torch.finfo(signal.dtype).max)[1] - 28  # leaves room for sums over channels and pixels
    room = _exponents(signal)
    return _scaled(signal, exponents.clamp(-largest - room, largest - room))


class _Instead(torch.autograd.Function):
    """(value, other) -> value, with the gradient going to `other`; of one shape, (N, ...).

    The gradient goes on with its largest element of each image in [0.5, 1); the power of two that restores it is added
    to `exponents`, (N,), so nothing is rounded.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, other: Tensor, exponents: Tensor) -> Tensor:
        ctx.exponents = exponents
        return value

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (gradient,) = gradients
        if len(gradient) == len(ctx.exponents):  # else a reshape has the images in other rows
            found = _exponents(gradient)
            ctx.exponents += found
            gradient = _scaled(gradient, -found)
        return None, gradient, None


def _exponents(x: Tensor) -> Tensor:
    """Return (N,) e such that the largest |x| of each image lies in [0.5, 1) * 2^e; 0 where all are 0."""
    return torch.frexp(x.abs().flatten(1).amax(1)).exponent


def _scaled(x: Tensor, exponents: Tensor) -> Tensor:
    """Return x * 2^e for each image; x: (N, ...), exponents: (N,)."""
    return x * torch.exp2(exponents.to(x.dtype)).view(-1, *[1] * (x.dim() - 1))
