"""Rules of the linear layers: RAP's two flows (7), (8), their bias correction (10), and z^B at the network's input."""

import math

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from rapbench.relevance.rules import Step, rule, transpose


def apply(module: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Apply a linear layer's map to x with other weights and no bias; shapes as the layer's own."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    if isinstance(module, Conv2dSame):
        x = pad_same(x, weight.shape[-2:], module.stride, module.dilation)
        return F.conv2d(x, weight, None, module.stride, 0, module.dilation, module.groups)
    return module._conv_forward(x, weight, None)  # type: ignore[operator, no-any-return]


@rule(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, Conv2dSame)
def linear(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """Correct for the bias (10), then hand relevance down: z^B at the input, (7) or (8) elsewhere."""
    if step.options.bias_correction and step.module.bias is not None:
        relevance = correct_bias(relevance, step.module.bias, kappa, channels_last=isinstance(step.module, nn.Linear),
                                 divisor=step.options.bias_divisor)  # fmt: skip
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
    weight = step.module.weight
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)  # type: ignore[operator]
    if kappa < 0:
        positive, negative = negative, positive
    parts = [(m, positive)] if m.amin() >= 0 else [(m.clamp(min=0), positive), (m.clamp(max=0), negative)]
    maps = [(x, *transpose(lambda x, w=w: apply(step.module, x, w), x)) for x, w in parts]
    if step.options.mixed_sign == "printed":
        return sum_of(x * back(step.share(relevance, total)) for x, total, back in maps)
    shared = step.share(relevance, sum_of(total for _, total, _ in maps))
    return sum_of(x * back(shared) for x, _, back in maps)


def zbox(step: Step, relevance: Tensor) -> Tensor:
    """z^B: R_i = sum_j q_ij / (sum_i q_ij) R_j with q_ij = x_i w_ij - l w+_ij - h w-_ij (Montavon et al. 2017).

    l and h are each image's own minimum and maximum, as in both of the RAP authors' releases (the first swaps them).
    """
    (x,) = step.inputs
    weight = step.module.weight
    low, high = x.flatten(1).amin(1), x.flatten(1).amax(1)
    if step.options.input_rule == "zbox_swapped":
        low, high = high, low
    low, high = (bound.view(-1, *[1] * (x.dim() - 1)).expand_as(x) for bound in (low, high))
    terms = [(x, weight), (-low, weight.clamp(min=0)), (-high, weight.clamp(max=0))]  # type: ignore[operator]
    maps = step.once(
        "zbox", lambda: [(a, *transpose(lambda a, w=w: apply(step.module, a, w), a)) for a, w in terms]
    )
    shared = step.share(relevance, sum_of(total for _, total, _ in maps))
    return sum_of(a * back(shared) for a, _, back in maps)


def sum_of(tensors: object) -> Tensor:
    """Add tensors left to right, without the zero that `sum` starts from."""
    first, *rest = tensors  # type: ignore[misc]
    for tensor in rest:
        first = first + tensor
    return first


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
