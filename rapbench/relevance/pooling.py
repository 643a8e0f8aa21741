"""Rules of pooling: the winner takes all under a maximum, averages share in proportion to the activations."""

from collections.abc import Iterator, Sequence

from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor

from rapbench.relevance.operations import POOLS, Mean, Sum
from rapbench.relevance.rules import Flow, Step, rule, transpose


@rule(*POOLS["max"], MaxPool2dSame, where=lambda pool: not getattr(pool, "return_indices", False))
def max_pool(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum of R_j over the windows j that i wins (the first of equals)."""
    (x,) = step.inputs
    _, back = transpose(step.module, x)
    for flow in flows:
        yield (back(flow.relevance),)


@rule(*POOLS["average"], AvgPool2dSame, Mean, Sum)
def average_pool(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum_j m_i / (sum_i m_i) R_j over the windows j of which i is a member."""
    (m,) = step.inputs
    total, back = transpose(step.module, m)
    signed = not step.nonnegative[0]
    total = step.denominator(total, signed=signed)
    half = step.module(m.abs()).div_(2) if signed else None
    for flow in flows:
        yield (back(step.share(flow, flow.relevance, total, summand=half)) * m,)
