"""Rules of the linear layers: RAP's two flows (7), (8), their bias correction (10), and z^B at the network's input."""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from rapbench.relevance.operations import Pad
from rapbench.relevance.rules import Back, Step, divisor, rule, transpose


class Padded(nn.Module):
    """Zeros around an input, then a convolution: one linear layer, whose padding is nobody's pixel."""

    def __init__(self, pad: Pad, layer: nn.Module):
        super().__init__()
        self.pad, self.layer = pad, layer

    @property
    def weight(self) -> Tensor:
        """The convolution's."""
        return self.layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The convolution's."""
        return self.layer.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        return self.layer(self.pad(x))


def apply(module: nn.Module, x: Tensor, weight: Tensor) -> Tensor:
    """Apply a linear layer's map to x with other weights and no bias; shapes as the layer's own."""
    if isinstance(module, nn.Linear):
        return F.linear(x, weight)
    if isinstance(module, Padded):
        return apply(module.layer, module.pad(x), weight)
    if isinstance(module, Conv2dSame):
        x = pad_same(x, weight.shape[-2:], module.stride, module.dilation)
        return F.conv2d(x, weight, None, module.stride, 0, module.dilation, module.groups)
    return module._conv_forward(x, weight, None)  # type: ignore[operator]


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@rule(nn.Linear, *CONVOLUTIONS, Conv2dSame, Padded)
def linear(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor | None]:
    """Correct for the bias, then hand relevance down: z^B at the input, (7) or (8) elsewhere.

    R' = R - kappa (b_c - mean(b)) / (w h), which sums to 0 over the layer (RAP eq. 10); `area_squared`, as the authors'
    first release: divided by (w h)^2.
    """
    bias: Tensor | None = step.module.bias  # type: ignore[assignment]
    if step.options.bias_correction and bias is not None:
        area = math.prod(relevance.shape[1:]) // len(bias)
        divisor = area if step.options.bias_divisor == "area" else area**2
        excess = step.constant("bias", lambda: (bias - bias.mean()) / divisor)
        if not isinstance(step.module, nn.Linear):
            excess = excess.view(-1, *[1] * (relevance.dim() - 2))
        relevance = relevance.sub_(excess, alpha=kappa)
    if step.first and step.options.input_rule != "same_as_hidden":
        return (zbox(step, relevance, swapped=step.options.input_rule == "zbox_swapped"),)
    handed = two_ratios(step, relevance, kappa)
    return (handed.neg_() if kappa < 0 and step.options.inversion_sign == "flip" else handed,)


def two_ratios(step: Step, relevance: Tensor, kappa: int) -> Tensor:
    """R_i = sum_j (m+w+ / sum m+w+ + m-w- / sum m-w-) R_j, and with w's signs exchanged for kappa = -1 (RAP eq. 7, 8).

    Where the input has both signs, `joint` takes one ratio over both products, which conserves relevance; `printed`
    takes the two as they stand, which hands it out twice.
    """
    (m,) = step.inputs
    ours = weight_magnitude(step, kappa)
    if step.nonnegative[0]:
        total, handed = step.shared.pop("opposite", None), None
        if total is None:
            total, handed = shares(step.module, [(m, ours)])
            if step.more_flows and step.output is not None and type(step.module) in CONVOLUTIONS:
                _remember_opposite(step, step.output, total, kappa)
        shared = step.share(relevance, divisor(total, signed=False))
        return handed(shared) if handed else back_through(step.module, shared, ours, m).mul_(m)
    parts = [(magnitude(m, 1), ours), (magnitude(m, -1), weight_magnitude(step, -kappa))]
    if step.options.mixed_sign == "printed":
        return sum(_handed(step, relevance.clone(), [part]) for part in parts)  # type: ignore[return-value]
    return _handed(step, relevance, parts)


# The share of one sign's sum that the other's must have to be worth taking as a difference.
WELL_CONDITIONED = 0.01


def _remember_opposite(step: Step, output: Tensor, total: Tensor, kappa: int) -> None:
    """Z- = Z+ - Z in magnitudes, where the forward pass left Z: the next flow's totals without a convolution.

    Only where no more than two digits cancel in any of them; elsewhere that flow computes its own.
    """
    module: nn.Conv2d = step.module  # type: ignore[assignment]
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return
    opposite = torch.sub(total, output, alpha=kappa)
    if module.bias is not None:
        opposite.add_(module.bias.view(-1, *[1] * (total.dim() - 2)), alpha=kappa)
    if torch.sub(opposite, total, alpha=WELL_CONDITIONED).amin() >= 0:
        step.shared["opposite"] = opposite


def back_through(module: Any, s: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """Return sum_j w_ij s_j, shaped like x, of a zero-padded convolution with another weight."""
    return torch.ops.aten.convolution_backward(  # as torch.nn.grad does, which loses the memory's layout
        s, x, weight, None, module.stride, module.padding, module.dilation, False, [0], module.groups,
        (True, False, False),
    )[0]  # fmt: skip


def zbox(step: Step, relevance: Tensor, *, swapped: bool = False) -> Tensor | None:
    """z^B: R_i = sum_j q_ij / (sum_i q_ij) R_j with q_ij = x_i w_ij - l w+_ij - h w-_ij (Montavon et al. 2017).

    l and h are each image's own minimum and maximum, as in both of the RAP authors' releases (the first swaps them).
    As q = (x - l) w+ + (x - h) w-, both of its terms are non-negative, unless swapped. The rule is the same in every
    flow, so their relevance goes down together, with the last flow.
    """
    relevance = relevance.add_(step.shared.pop("waiting", 0))
    if step.more_flows:
        step.shared["waiting"] = relevance
        return None
    (x,) = step.inputs
    low, high = (bound(x, tuple(range(1, x.dim())), keepdim=True) for bound in (torch.amin, torch.amax))
    if swapped:
        low, high = high, low
    parts = [(x - low, weight_magnitude(step, 1)), (high - x, weight_magnitude(step, -1))]
    return _handed(step, relevance, parts, signed=swapped)


def _handed(step: Step, relevance: Tensor, parts: list[tuple[Tensor, Tensor]], signed: bool = False) -> Tensor:
    total, handed = shares(step.module, parts)
    return handed(step.share(relevance, divisor(total, signed=signed)))


def magnitude(x: Tensor, sign: int) -> Tensor:
    """The magnitude of x's positive part, or of its negative part: ratios of products do not mind the sign."""
    return x.clamp(min=0) if sign > 0 else x.neg().clamp_(min=0)


def weight_magnitude(step: Step, sign: int) -> Tensor:
    """The magnitude of one sign of a layer's weights."""
    weight: Tensor = step.module.weight  # type: ignore[assignment]
    return step.constant(f"weight {sign}", lambda: magnitude(weight, sign))


def shares(module: nn.Module, parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Back]:
    """Return sum_i z_ij over all parts (input, weight), and the map s -> sum over parts x_i sum_j w_ij s_j.

    Several parts are one layer with as many times the input channels.
    """
    (x, weight), count = parts[0], len(parts)
    axis = x.dim() - 1 if isinstance(module, nn.Linear) else 1
    groups = x.shape[axis] // weight.shape[1]
    if count > 1:
        x = _stacked([x for x, _ in parts], axis, groups)
        weight = torch.cat([weight for _, weight in parts], 1)
    value, back = transpose(functools.partial(apply, module, weight=weight), x)

    def handed(s: Tensor) -> Tensor:
        result = back(s).mul_(x)
        return (
            result if count == 1 else result.unflatten(axis, (groups, count, -1)).sum(axis + 1).flatten(axis, axis + 1)
        )

    return value, handed


def _stacked(tensors: list[Tensor], axis: int, groups: int) -> Tensor:
    if groups == 1:  # the common case, which keeps the memory's layout
        return torch.cat(tensors, axis)
    return torch.cat([tensor.unflatten(axis, (groups, -1)) for tensor in tensors], axis + 1).flatten(axis, axis + 1)


def first_propagation(inputs: Tensor, weight: Tensor, target_logit: Tensor) -> Tensor:
    """Share a target logit among the last linear layer's inputs, signed (RAP eq. 5).

    inputs: (N, D) activations. weight: (N, D) the target's row for each sample. target_logit: (N,).
    Returns (N, D) relevance; each row's positive part sums to the logit, its negative part to minus it.
    """
    z = inputs * weight
    positive, negative = z.clamp(min=0), z.clamp(max=0)
    one, other = (part / divisor(part.sum(1, keepdim=True), signed=True) for part in (positive, negative))
    return (one - other) * target_logit.unsqueeze(1)
