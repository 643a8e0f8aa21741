"""RAP's rules of the linear layers: the first propagation (5), two flows (7), (8), and z^B at the network's input."""

import math

import torch
from torch import Tensor, nn

from rapbench.relevance.linear import (
    CONVOLUTIONS,
    LINEAR,
    TRANSPOSED,
    Folded,
    back_through,
    per_channel,
    products,
    shares,
    weight_magnitude,
)
from rapbench.relevance.rules import RULES, Step, divisor, rule


def first_propagation(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R_i = sum_j (z+_ij / sum_i z+_ij - z-_ij / sum_i z-_ij) R_j with z_ij = m_i w_ij, in the last layer (RAP eq. 5).

    Each R_j is handed out once to either sign, with opposite signs: in sum 0 times. Biases take no part.
    """
    (m,) = step.inputs
    step.times = 0
    handed = []
    for sign, part in ((1, relevance.clone()), (-1, relevance.neg_())):
        total, back = shares(step.module, products(step, m, sign, nonnegative=step.nonnegative[0]))
        handed.append(back(step.share(part, divisor(total, signed=False))))
    return (handed[0].add_(handed[1]),)


RULES.head = first_propagation


@rule(*(kind for kind in LINEAR if kind is not Folded))
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
        relevance = relevance.sub_(per_channel(step.module, excess, relevance), alpha=kappa)
    if step.first and step.options.input_rule != "same_as_hidden":
        return (zbox(step, relevance, swapped=step.options.input_rule == "zbox_swapped"),)
    handed = two_ratios(step, relevance, kappa)
    if kappa < 0 and step.options.inversion_sign == "flip":
        step.times, step.dropped = -step.times, -step.dropped
        return (handed.neg_(),)
    return (handed,)


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
            if step.more_flows and step.output is not None and type(step.module) in (*CONVOLUTIONS, *TRANSPOSED):
                _remember_opposite(step, step.output, total, kappa)
        shared = step.share(relevance, divisor(total, signed=False))
        return handed(shared) if handed else back_through(step.module, shared, ours, m).mul_(m)
    parts = products(step, m, kappa, nonnegative=False)
    if step.options.mixed_sign == "printed":
        step.times = 2
        return _handed(step, relevance.clone(), parts[:1]).add_(_handed(step, relevance, parts[1:]))
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
        opposite.add_(per_channel(module, module.bias, total), alpha=kappa)
    if torch.sub(opposite, total, alpha=WELL_CONDITIONED).amin() >= 0:
        step.shared["opposite"] = opposite


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
