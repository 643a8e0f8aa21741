"""D_K: how far the most relevant pixels lie from the most relevant one (RAP eq. 12, Fig. 7b)."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from rapbench.protocols import protocols


@protocols.register("distance", kind="measure")
def distance(
    order: Tensor, counts: Tensor, space: Sequence[int], *, norm: Literal["euclidean", "squared"] = "euclidean"
) -> Tensor:
    """Return D_K = (1/K) sum_{n=1..K} |r_1 - r_n| in pixels, (N, number of K); NaN where there is no pixel.

    order: (N, n) positions by rank. counts: (N, number of K) pixels that each K stands for. space: the map's shape, of
    any number of dimensions.
    """
    places = torch.stack(torch.unravel_index(order, tuple(space)))
    squared = ((places - places[..., :1]) ** 2).sum(0)
    apart = squared.double() if norm == "squared" else squared.double().sqrt()
    sums = torch.cat([apart.new_zeros(len(apart), 1), apart.cumsum(1)], 1)
    return sums.gather(1, counts) / counts
