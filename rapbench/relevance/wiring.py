"""Rules of what joins, passes, moves or resizes signals: activations, gates, additions, concatenations, padding."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.operations import (
    ACTIVATIONS,
    INTERPOLATIONS,
    MOVES,
    PADS,
    TRANSPARENT,
    UPSAMPLES,
    Add,
    Cat,
    Constant,
    Gate,
    Interpolate,
    Pad,
    Part,
    Share,
    of_every_unit,
)
from rapbench.relevance.rules import Flow, Step, beside, rule, transpose


@rule(*ACTIVATIONS, *TRANSPARENT, keeps_inputs=False)
def pass_through(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = R_i: an elementwise function keeps relevance where it is."""
    return ((flow.relevance,) for flow in flows)


@rule(Constant, keeps_inputs=False)
def constant(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = R_i under a scaling or a shift, summed where the constant broadcast the input."""
    return ((flow.relevance.sum_to_size(step.shapes[0]),) for flow in flows)


@rule(Gate, keeps_inputs=False)
def gate(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor, None]]:
    """All to the signal, none to the gate, which scales and carries nothing (as in LRP, [arras2017explaining])."""
    return ((flow.relevance.sum_to_size(step.shapes[0]), None) for flow in flows)


@rule(nn.Flatten, nn.Unflatten, keeps_inputs=False)
def reshape_back(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """Relevance takes the input's shape again."""
    return ((flow.relevance.reshape(step.shapes[0]),) for flow in flows)


@rule(Pad, Part, *PADS, *MOVES, keeps_inputs=False)
def rearrange_back(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """Every element returns to where it came from; what falls on constant padding is dropped."""
    _, back = transpose(step.module, flows[0].relevance.new_zeros(step.shapes[0]))
    for flow in flows:
        handed = back(flow.relevance)
        if step.count_dropped:
            flow.dropped = step.per_image(flow.relevance) - step.per_image(handed)
        yield (handed,)


@rule(*UPSAMPLES, Interpolate, keeps_inputs=False, where=lambda module: module.mode in INTERPOLATIONS)
def interpolate(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum_j w_ij R_j: each output's relevance returns with the weights that made it, which sum to 1.

    A copy's relevance returns to what was copied. No activation takes part, so that nothing vanishes or explodes where
    signs cancel.
    """
    _, back = transpose(step.module, flows[0].relevance.new_zeros(step.shapes[0]))
    for flow in flows:
        yield (back(flow.relevance),)


@rule(Add)
def add(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor | None, Tensor | None]]:
    """R_a = a / (a + b) R, as the authors' release; `absolute`: |a| / (|a| + |b|) R, bounded where signs differ.

    What does not depend on the network's input is a constant: one of every unit, as a position embedding is, has its
    share, which is dropped; another takes nothing.
    """
    if step.varying and not all(step.varying):
        signal = step.varying.index(True)
        x, c = step.inputs[signal], _of_one_image(step.inputs[1 - signal], step.inputs[signal])
        if of_every_unit(c):
            for (handed,) in _shared_with(step, flows, x, c):
                yield (handed, None) if signal == 0 else (None, handed)
            return
        for flow in flows:
            own = [flow.relevance.sum_to_size(shape) if varying else None
                   for shape, varying in zip(step.shapes, step.varying, strict=True)]  # fmt: skip
            yield own[0], own[1]
        return
    a, b = step.inputs
    if step.options.residual == "absolute":
        a, b = a.abs(), b.abs()
    signed = step.options.residual == "proportional" and not all(step.nonnegative)
    total = step.denominator(a + b, signed=signed)
    for flow in flows:
        shared = step.share(flow, flow.relevance, total, summand=a if signed else None)
        yield (a * shared).sum_to_size(a.shape), shared.mul_(b).sum_to_size(b.shape)


@rule(Share)
def share(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor | None, ...]]:
    """R_x = x / (x + c) R, as at an addition; the share of c, which depends on no image, is dropped."""
    (x,) = step.inputs
    c = _of_one_image(step.module.constant, x)  # type: ignore[arg-type]
    if of_every_unit(c):
        yield from _shared_with(step, flows, x, c)
    else:
        yield from constant(step, flows)


def _of_one_image(c: Tensor, x: Tensor) -> Tensor:
    """Return a constant that is added to (rows, ...) without its rows, which must be equal."""
    if c.dim() < x.dim():
        return c
    if not torch.equal(c, c[:1].expand_as(c)):
        raise RapbenchError("a summand that depends on an image's place in the batch has no relevance rule")
    return c[:1]


def _shared_with(step: Step, flows: Sequence[Flow], x: Tensor, c: Tensor) -> Iterator[tuple[Tensor]]:
    if step.options.residual == "absolute":
        x, c = x.abs(), c.abs()
    signed = step.options.residual == "proportional"
    total = step.denominator(x + c, signed=signed)
    added = beside(total, step.options.stabilizer, c) if step.count_dropped else None
    for flow in flows:
        shared = step.share(flow, flow.relevance, total, added=added, summand=x if signed else None)
        yield (shared.mul_(x).sum_to_size(x.shape),)


@rule(Cat, keeps_inputs=False)
def cat(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor, ...]]:
    """Each part gets its own relevance back; a constant's, as a class token's, is dropped."""
    module: Cat = step.module  # type: ignore[assignment]
    constants = {place: tensor.shape[module.dim] for place, tensor in module.constants.items()}
    sizes = module.all([shape[module.dim] for shape in step.shapes], constants)
    for flow in flows:
        parts = torch.split(flow.relevance, sizes, module.dim)
        if step.count_dropped:
            flow.dropped = sum((step.per_image(parts[place]) for place in constants), start=flow.dropped)
        yield tuple(part for place, part in enumerate(parts) if place not in constants)
