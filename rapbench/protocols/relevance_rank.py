"""Relevance rank: the share of the most relevant pixels that lie inside the mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.localisation import Inside, Localisation
from rapbench.protocols.base.metric import Metric


@protocols.register("relevance_rank")
@dataclass(frozen=True, kw_only=True)
class RelevanceRank(Localisation):
    """Relevance rank accuracy [arras2022clevr]: the share of the k most relevant pixels inside, k the mask's size.

    Only pixels with positive relevance count as relevant: a map with fewer than k of them cannot reach 1.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric(
            "relevance_rank", {"": "higher"}, title="share of the most relevant pixels inside", axis=None, decimals=3
        ),
    )

    def located(self, inside: Inside) -> Tensor:
        """Return the share, (N,) float64."""
        ranks = torch.arange(inside.order.shape[1], device=inside.order.device)
        first = ranks < inside.size.minimum(inside.count)[:, None]
        return (inside.mask.gather(1, inside.order) & first).sum(1).double() / inside.size
