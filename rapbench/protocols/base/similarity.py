"""How alike two heatmaps are: Spearman's rank correlation and SSIM."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool1d, avg_pool2d, avg_pool3d

from rapbench.core.errors import RapbenchError

WINDOW = 7  # of SSIM, in pixels along each dimension, where the map is as large
C1, C2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # of SSIM, for values in -1..1
PERCENTILE = 0.99
POOLS = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}


def spearman(one: Tensor, other: Tensor) -> Tensor:
    """Return Spearman's rank correlation of each pair of maps, ties by their mean rank.

    one, other: (N, *space). Returns (N,) float64, NaN where a map is constant or not finite.
    """
    return pearson(mean_ranks(one.flatten(1)), mean_ranks(other.flatten(1)))


def pearson(one: Tensor, other: Tensor) -> Tensor:
    """Return Pearson's correlation of each pair of rows, (N, n) -> (N,) float64, NaN where a row is constant."""
    constant = (one.amin(1) == one.amax(1)) | (other.amin(1) == other.amax(1))  # of which a rounded mean does not tell
    one, other = (rows.double() - rows.double().mean(1, keepdim=True) for rows in (one, other))
    norms = one.square().sum(1).sqrt() * other.square().sum(1).sqrt()
    return ((one * other).sum(1) / norms).masked_fill(constant | (norms == 0), torch.nan)


def mean_ranks(rows: Tensor) -> Tensor:
    """Return the ranks within each row, (N, n) float64 from 1 on, of equal values their mean; NaN in a row with NaN."""
    ordered = rows.sort(dim=1).values
    below, upto = (torch.searchsorted(ordered, rows.contiguous(), right=right) for right in (False, True))
    ranks = (below + upto + 1).double() / 2
    return ranks.masked_fill(~rows.isfinite().all(1, keepdim=True), torch.nan)


def ssim(one: Tensor, other: Tensor) -> Tensor:
    """Return the structural similarity of each pair of maps [wang2004image], each scaled to its 99th percentile.

    Means over windows of 7 pixels a side that lie inside, with sample variances, as scikit-image computes it.

    Parameters
    ----------
    one, other : Tensor, (N, *space)

    Returns
    -------
    Tensor, (N,) float64
        NaN where a map is zero or not finite.
    """
    one, other = scaled(one), scaled(other)
    side = min(WINDOW, *((length - 1) // 2 * 2 + 1 for length in one.shape[1:]))
    pool, count = POOLS[one.dim() - 1], side ** (one.dim() - 1)

    def mean(values: Tensor) -> Tensor:
        found: Tensor = pool(values[:, None], side, stride=1)
        return found[:, 0]

    u, v = mean(one), mean(other)
    sample = count / (count - 1)
    uu, vv, uv = (sample * (mean(a * b) - c) for a, b, c in
                  ((one, one, u * u), (other, other, v * v), (one, other, u * v)))  # fmt: skip
    alike = (2 * u * v + C1) * (2 * uv + C2) / ((u * u + v * v + C1) * (uu + vv + C2))
    found: Tensor = alike.flatten(1).mean(1)
    return found


def scaled(maps: Tensor) -> Tensor:
    """Return maps over the 99th percentile of their absolute values, cut off at -1 and 1; float64.

    Where that percentile is 0, the largest absolute value takes its place; a map of zeros becomes NaN.
    """
    ordered = maps.flatten(1).double().abs().sort(dim=1).values
    place = PERCENTILE * (ordered.shape[1] - 1)
    below, share = math.floor(place), place - math.floor(place)
    largest = ordered[:, below] * (1 - share) + ordered[:, math.ceil(place)] * share
    largest = torch.where(largest == 0, ordered[:, -1], largest)
    unit = largest.view(-1, *[1] * (maps.dim() - 1))
    return (maps.double() / unit).clamp(-1, 1).masked_fill(unit == 0, torch.nan)


def check_window(space: Sequence[int]) -> None:
    """Raise RapbenchError for maps in which no window of SSIM has its place."""
    if min(space) < 3:
        raise RapbenchError(f"SSIM needs maps of 3 pixels or more along each dimension, got {tuple(space)}")
