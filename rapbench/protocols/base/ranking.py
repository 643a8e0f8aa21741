"""The pixel ranking: positive relevance most first (MoRF), or negative relevance most negative first (LeRF)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.signs import Sign
from rapbench.protocols.base.ks import number_of


@dataclass(frozen=True)
class Ranking:
    """The ranked pixels of one sign.

    Attributes
    ----------
    order : Tensor, (N, n) int64
        The pixel position at each rank.
    count : Tensor, (N,)
        Number of pixels that have the sign.
    """

    order: Tensor
    count: Tensor

    @property
    def ranks(self) -> Tensor:
        """The rank of each pixel position from 0 on, (N, n) int64."""
        places = torch.arange(self.order.shape[1], device=self.order.device).expand_as(self.order)
        return torch.zeros_like(self.order).scatter_(1, self.order, places)

    def selected(self, k: int | str) -> Tensor:
        """Return the number of pixels that K selects in each image, (N,): at most all that have the sign."""
        return self.count.clamp(max=number_of(k, self.order.shape[1]))


def rank_pixels(heatmaps: Tensor, sign: Sign) -> Ranking:
    """Rank the pixels of one sign of each heatmap. The other pixels follow them. Ties are ranked by position.

    Parameters
    ----------
    heatmaps : Tensor, (N, *space)
        Relevance summed over channels.
    sign : {"positive", "negative"}

    Returns
    -------
    Ranking
    """
    relevance = heatmaps.flatten(1) if sign == "positive" else -heatmaps.flatten(1)
    order = relevance.argsort(dim=1, descending=True, stable=True)
    return Ranking(order, (relevance > 0).sum(1))
