"""AttnLRP's rules [achtibat2024attnlrp]: attention's weights take relevance too.

Norms are as in LRP, as in the authors' software: their paper's identity rule is the same for a norm without shift and
mean, and otherwise hands relevance to activations near 0, which no denominator below takes.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from rapbench.relevance.lrp_layers import LRP
from rapbench.relevance.operations import MatMul
from rapbench.relevance.rules import Flow, Rules, Step

ATTNLRP = Rules({}, *LRP.maps, folds=True, bilinear=True)


@ATTNLRP.rule(MatMul)
def product(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor, Tensor]]:
    """R_a = sum a b / (2 o + e) R and R_b alike, in each product's share of the sum o = sum a b."""
    a, b = step.inputs
    total = step.denominator((a @ b).mul_(2), signed=True)
    for flow in flows:
        shared = step.share(flow, flow.relevance, total)
        left, right = shared @ b.transpose(-2, -1), a.transpose(-2, -1) @ shared
        yield left.sum_to_size(a.shape).mul_(a), right.sum_to_size(b.shape).mul_(b)


@ATTNLRP.rule(nn.Softmax)
def softmax(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = x_i (R_i - s_i sum_j R_j), s = softmax(x): the linear terms; the rest of the relevance is dropped."""
    (x,) = step.inputs
    dim: int = step.module.dim  # type: ignore[assignment]
    s = x.softmax(dim)
    for flow in flows:
        relevance = flow.relevance
        handed = torch.where(x.isinf(), 0, x).mul_(relevance - s * relevance.sum(dim, keepdim=True))
        if step.count_dropped:
            flow.dropped = flow.dropped + step.per_image(relevance) - step.per_image(handed)
        yield (handed,)
