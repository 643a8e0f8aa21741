"""RAP's rules of the linear layers: the first propagation (5), two flows (7), (8), and z^B at the network's input."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rapbench.relevance.box import image_box, in_box
from rapbench.relevance.linear import (
    CONVOLUTIONS,
    LINEAR,
    TRANSPOSED,
    Folded,
    attention_follows,
    back_through,
    per_channel,
    products,
    shares,
    weight_magnitude,
)
from rapbench.relevance.rules import RULES, Flow, Step, divisor, rule


def first_propagation(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum_j (z+_ij / sum_i z+_ij - z-_ij / sum_i z-_ij) R_j with z_ij = m_i w_ij, in the last layer (RAP eq. 5).

    Each R_j is handed out once to either sign, with opposite signs: in sum 0 times. Biases take no part.
    """
    (m,) = step.inputs
    for flow in flows:
        flow.times = 0
        handed = []
        for sign, part in ((1, flow.relevance.clone()), (-1, flow.relevance.neg_())):
            total, back = shares(step.module, products(step, m, sign, nonnegative=step.nonnegative[0]))
            handed.append(back(step.share(flow, part, divisor(total, signed=False))))
        yield (handed[0].add_(handed[1]),)


RULES.head = first_propagation


@rule(*(kind for kind in LINEAR if kind is not Folded))
def linear(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor | None]]:
    """Correct for the bias, then hand relevance down: z^B at the input, (7) or (8) elsewhere.

    R' = R - kappa (b_c - mean(b)) / (w h), which sums to 0 over the layer (RAP eq. 10); `area_squared`, as the authors'
    first release: divided by (w h)^2.
    """
    bias: Tensor | None = step.module.bias  # type: ignore[assignment]
    if step.options.bias_correction and bias is not None:
        area = flows[0].relevance.numel() // step.images_in(flows[0].relevance) // len(bias)
        divisor = area if step.options.bias_divisor == "area" else area**2
        excess = step.constant("bias", lambda: (bias - bias.mean()) / divisor)
        for flow in flows:
            flow.relevance.sub_(per_channel(step.module, excess, flow.relevance), alpha=flow.kappa)
    if step.first and step.options.input_rule != "same_as_hidden":
        yield from zbox(step, flows, swapped=step.options.input_rule == "zbox_swapped")
        return
    for flow, handed in zip(flows, two_ratios(step, flows), strict=True):
        if flow.kappa < 0 and step.options.inversion_sign == "flip":
            flow.times, flow.dropped = -flow.times, -flow.dropped
            handed.neg_()
        yield (handed,)


attention_follows(RULES, linear)


def two_ratios(step: Step, flows: Sequence[Flow]) -> Iterator[Tensor]:
    """R_i = sum_j (m+w+ / sum m+w+ + m-w- / sum m-w-) R_j, and with w's signs exchanged for kappa = -1 (RAP eq. 7, 8).

    Where the input has both signs, `joint` takes one ratio over both products, which conserves relevance; `printed`
    takes the two as they stand, which hands it out twice.
    """
    total: Tensor | None = None
    for number, flow in enumerate(flows, start=1):
        if step.nonnegative[0]:
            handed, total = _one_ratio(step, flow, total, more=number < len(flows) and not step.count_dropped)
            yield handed
        else:
            yield _both_signs(step, flow)


def _one_ratio(step: Step, flow: Flow, total: Tensor | None, *, more: bool) -> tuple[Tensor, Tensor | None]:
    """Return what (7) or (8) hands to an input that is never negative, and the totals of the opposite flow.

    total: of this flow, where the flow before has told it. more: whether there is a flow to tell; it gets None where
    it has to compute its own.
    """
    (m,) = step.inputs
    ours = weight_magnitude(step, flow.kappa)
    if total is not None:
        shared = step.share(flow, flow.relevance, divisor(total, signed=False))
        return back_through(step.module, shared, ours, m).mul_(m), None
    total, back = shares(step.module, [(m, ours)])
    opposite = None
    if more and step.output is not None and type(step.module) in (*CONVOLUTIONS, *TRANSPOSED):
        opposite = opposite_total(step.module, step.output, total, flow.kappa)
    return back(step.share(flow, flow.relevance, divisor(total, signed=False))), opposite


def _both_signs(step: Step, flow: Flow) -> Tensor:
    (m,) = step.inputs
    parts = products(step, m, flow.kappa, nonnegative=False)
    if step.options.mixed_sign == "printed":
        flow.times = 2
        return _handed(step, flow, flow.relevance.clone(), parts[:1]).add_(
            _handed(step, flow, flow.relevance, parts[1:])
        )
    return _handed(step, flow, flow.relevance, parts)


# The share of one sign's sum that the other's must have to be worth taking as a difference.
WELL_CONDITIONED = 0.01


def opposite_total(module: nn.Module, output: Tensor, total: Tensor, kappa: int) -> Tensor | None:
    """Return Z- = Z+ - Z in magnitudes: a convolution's totals in the opposite flow, without another convolution.

    output: Z, the convolution's own, with its bias. total: those of the flow with this kappa. None where more than two
    digits cancel in any of them: that flow must compute its own.
    """
    assert isinstance(module, nn.modules.conv._ConvNd)
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        return None
    opposite = torch.sub(total, output, alpha=kappa)
    if module.bias is not None:
        opposite.add_(per_channel(module, module.bias, total), alpha=kappa)
    return opposite if torch.sub(opposite, total, alpha=WELL_CONDITIONED).amin() >= 0 else None


def zbox(step: Step, flows: Sequence[Flow], *, swapped: bool = False) -> Iterator[tuple[Tensor | None]]:
    """z^B: R_i = sum_j q_ij / (sum_i q_ij) R_j with q_ij = x_i w_ij - l w+_ij - h w-_ij [montavon2017dtd].

    l and h are each image's own minimum and maximum, as in both of the RAP authors' releases (the first swaps them).
    As q = (x - l) w+ + (x - h) w-, both of its terms are non-negative, unless swapped. The rule is the same in every
    flow, so their relevance goes down together, with the last flow, unless what each drops is counted.
    """
    *waiting, last = flows
    if not step.count_dropped:
        for flow in waiting:
            last.relevance.add_(flow.relevance)
    (x,) = step.inputs
    low, high = image_box(step, x)
    parts = in_box(step, x, *((high, low) if swapped else (low, high)))
    for flow in flows:
        together = flow is not last and not step.count_dropped
        yield (None if together else _handed(step, flow, flow.relevance, parts, signed=swapped),)


def _handed(
    step: Step, flow: Flow, relevance: Tensor, parts: list[tuple[Tensor, Tensor]], signed: bool = False
) -> Tensor:
    total, handed = shares(step.module, parts)
    return handed(step.share(flow, relevance, divisor(total, signed=signed)))
