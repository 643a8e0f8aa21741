"""The pixel ranking: positive relevance most first (MoRF), or negative relevance most negative first (LeRF)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from rapbench.errors import RapbenchError

Sign = Literal["positive", "negative"]


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


def check_ks(name: str, ks: object) -> dict[Sign, list[int | str]]:
    """Return a protocol's K lists by sign; each must ascend, with `all` last.

    Raises RapbenchError that says which list is wrong and how.
    """
    if not isinstance(ks, dict) or not set(ks) <= {"positive", "negative"} or not ks:
        raise RapbenchError(f"protocol {name!r}: k must give lists for positive and/or negative, got {ks!r}")
    for sign, values in ks.items():
        numbers = [value for value in values if value != "all"]
        if not all(isinstance(value, int) and value >= 0 for value in numbers):
            raise RapbenchError(f"protocol {name!r}: k.{sign} must hold whole numbers of pixels or all, got {values}")
        if numbers != sorted(set(numbers)) or values != numbers + ["all"] * ("all" in values) or not values:
            raise RapbenchError(f"protocol {name!r}: k.{sign} must ascend, with all last, got {values}")
    return ks


def heatmaps_of(relevance: Tensor) -> Tensor:
    """Return (N, *space) relevance summed over channels; relevance: (N, C, *space)."""
    return torch.sum(relevance, dim=1)
