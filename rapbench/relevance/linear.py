"""Rules of the linear layers: RAP's two flows (7), (8), their bias correction (10), and z^B at the network's input."""

import functools
import math
from collections.abc import Iterable

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from rapbench.relevance.rules import Back, Step, rule, transpose


def apply(module: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Apply a linear layer's map to x with other weights and no bias; shapes as the layer's own."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    if isinstance(module, Conv2dSame):
        x = pad_same(x, weight.shape[-2:], module.stride, module.dilation)
        return F.conv2d(x, weight, None, module.stride, 0, module.dilation, module.groups)
    return module._conv_forward(x, weight, None)  # type: ignore[operator]


@rule(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
def linear(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """Correct for the bias (10), then hand relevance down: z^B at the input, (7) or (8) elsewhere."""
    bias: Tensor | None = step.module.bias  # type: ignore[assignment]
    if step.options.bias_correction and bias is not None:
        last = isinstance(step.module, nn.Linear)
        relevance = correct_bias(relevance, bias, kappa, channels_last=last, divisor=step.options.bias_divisor)
    if step.first and step.options.input_rule != "same_as_hidden":
        return (zbox(step, relevance),)
    sign = -1 if kappa < 0 and step.options.inversion_sign == "flip" else 1
    return (sign * two_ratios(step, relevance, kappa),)


def correct_bias(relevance: Tensor, bias: Tensor, kappa: int, *, channels_last: bool, divisor: str) -> Tensor:
    """R' = R - kappa (b_c - mean(b)) / (w h), which sums to 0 over the layer (RAP eq. 10).

    relevance: (N, C, *spatial), or (N, *spatial, C) with `channels_last`. bias: (C,). divisor: `area`, or the authors'
    first release's `area_squared`.
    """
    area = math.prod(relevance.shape[1:]) // len(bias)
    share = (bias - bias.mean()) / (area if divisor == "area" else area**2)
    if not channels_last:
        share = share.view(-1, *[1] * (relevance.dim() - 2))
    return relevance - kappa * share


def two_ratios(step: Step, relevance: Tensor, kappa: int) -> Tensor:
    """R_i = sum_j (m+w+ / sum m+w+ + m-w- / sum m-w-) R_j, and with w's signs exchanged for kappa = -1 (RAP eq. 7, 8).

    Where the input has both signs, `joint` takes one ratio over both products, which conserves relevance; `printed`
    takes the two as they stand, which hands it out twice.
    """
    (m,) = step.inputs
    weight: Tensor = step.module.weight  # type: ignore[assignment]
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    if kappa < 0:
        positive, negative = negative, positive
    parts = [(m, positive)] if m.amin() >= 0 else [(m.clamp(min=0), positive), (m.clamp(max=0), negative)]
    maps = _maps(step.module, parts)
    if step.options.mixed_sign == "printed":
        return sum_of(x * back(step.share(relevance, total)) for x, total, back in maps)
    shared = step.share(relevance, sum_of(total for _, total, _ in maps))
    return sum_of(x * back(shared) for x, _, back in maps)


def zbox(step: Step, relevance: Tensor) -> Tensor:
    """z^B: R_i = sum_j q_ij / (sum_i q_ij) R_j with q_ij = x_i w_ij - l w+_ij - h w-_ij (Montavon et al. 2017).

    l and h are each image's own minimum and maximum, as in both of the RAP authors' releases (the first swaps them).
    """
    (x,) = step.inputs
    weight: Tensor = step.module.weight  # type: ignore[assignment]
    low, high = x.flatten(1).amin(1), x.flatten(1).amax(1)
    if step.options.input_rule == "zbox_swapped":
        low, high = high, low
    low, high = (bound.view(-1, *[1] * (x.dim() - 1)).expand_as(x) for bound in (low, high))
    terms = [(x, weight), (-low, weight.clamp(min=0)), (-high, weight.clamp(max=0))]
    maps = step.once("zbox", lambda: _maps(step.module, terms))
    shared = step.share(relevance, sum_of(total for _, total, _ in maps))
    return sum_of(a * back(shared) for a, _, back in maps)


def _maps(module: nn.Module, parts: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor, Back]]:
    """Return (x, the layer's value at x, its transpose) for each pair of an input and a weight."""
    return [(x, *transpose(functools.partial(apply, module, weight=weight), x)) for x, weight in parts]


def sum_of(tensors: Iterable[Tensor]) -> Tensor:
    """Add tensors left to right."""
    return functools.reduce(torch.add, tensors)


def first_propagation(inputs: Tensor, weight: Tensor, target_logit: Tensor) -> Tensor:
    """Share a target logit among the last linear layer's inputs, signed (RAP eq. 5).

    inputs: (N, D) activations. weight: (N, D) the target's row for each sample. target_logit: (N,).
    Returns (N, D) relevance; each row's positive part sums to the logit, its negative part to minus it.
    """
    z = inputs * weight
    positive, negative = z.clamp(min=0), z.clamp(max=0)
    shares = _of_row(positive) - _of_row(negative)
    return shares * target_logit.unsqueeze(1)


def _of_row(z: Tensor) -> Tensor:
    total = z.sum(1, keepdim=True)
    return z / torch.where(total == 0, torch.inf, total)
