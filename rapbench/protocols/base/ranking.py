"""The pixel ranking: positive relevance most first (MoRF), or negative relevance most negative first (LeRF)."""

from dataclasses import dataclass

from torch import Tensor

from rapbench.core.signs import Sign


@dataclass(frozen=True)
class Ranking:
    """order: (N, n) int64, the pixel position at each rank. count: (N,) how many pixels have the sign asked for."""

    order: Tensor
    count: Tensor

    def selected(self, k: int | str) -> Tensor:
        """Return (N,) how many pixels K stands for in each image: K, all that have the sign, whichever is less."""
        return self.count if k == "all" else self.count.clamp(max=int(k))


def rank_pixels(heatmaps: Tensor, sign: Sign) -> Ranking:
    """Rank each map's pixels of one sign; the others follow them. Ties keep the order of position.

    heatmaps: (N, *space) relevance summed over channels.
    """
    relevance = heatmaps.flatten(1) if sign == "positive" else -heatmaps.flatten(1)
    order = relevance.argsort(dim=1, descending=True, stable=True)
    return Ranking(order, (relevance > 0).sum(1))
