"""D_K: how far the most relevant pixels lie from the most relevant one (RAP eq. 12, Fig. 7b)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.ks import Ks
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.perturbation import Ranked

KS: Ks = {
    "positive": (10, 50, 100, 250, 500, 1000, 2000, 4000, "all"),
    "negative": (10, 50, 100, 500, 1000, 2000, 4000, 6000, 8000, 10000, "all"),
}


@protocols.register("distance")
@dataclass(frozen=True, kw_only=True)
class Distance(Ranked):
    """D_K, the mean distance of the first K pixels from the first one (equation 12 of [nam2019rap]).

    Parameters
    ----------
    norm : {"euclidean", "squared"}
        euclidean agrees with the paper's text and the scale of its figure; squared is the equation as printed.
    """

    table: ClassVar[str] = "D_K"

    k: Ks = field(default_factory=lambda: KS)
    norm: Literal["euclidean", "squared"] = "euclidean"

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """How many pixels, and D_K."""
        squared = self.norm == "squared"
        title, unit = ("squared distance D_K", "pixels²") if squared else ("distance D_K", "pixels")
        return (
            Metric("selected", title="pixels", kind="count", decimals=0, detail=True),
            Metric("distance", title=title, unit=unit),
        )

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return selected and distance, NaN where there is no pixel, (N, number of K) each."""
        ranking = batch.ranking(variant)  # type: ignore[arg-type]
        selected = torch.stack([ranking.selected(k) for k in steps], 1)  # type: ignore[arg-type]
        found = distance(ranking.order, selected, batch.heatmaps.shape[1:], norm=self.norm)
        return {"selected": selected, "distance": found}

    def asked(self, signs: Sequence[str]) -> int:
        """Return 0: the ranking is all that is looked at."""
        return 0


def distance(
    order: Tensor, counts: Tensor, space: Sequence[int], *, norm: Literal["euclidean", "squared"] = "euclidean"
) -> Tensor:
    """Return D_K = (1/K) sum_{n=1..K} |r_1 - r_n| (equation 12 of [nam2019rap]).

    Parameters
    ----------
    order : Tensor, (N, n)
        Positions by rank.
    counts : Tensor, (N, number of K)
        Number of pixels that each K selects.
    space : sequence of int
        The map's shape, of any number of dimensions.
    norm : {"euclidean", "squared"}
        The distance, or its square.

    Returns
    -------
    Tensor, (N, number of K)
        In pixels, or squared pixels. NaN if there is no pixel.
    """
    coordinates = []
    for length in reversed(space):  # torch.unravel_index makes an index of a list, on the host
        coordinates.append(order % length)
        order = order // length
    places = torch.stack(coordinates[::-1])
    squared = ((places - places[..., :1]) ** 2).sum(0)
    apart = squared.double() if norm == "squared" else squared.double().sqrt()
    sums = torch.cat([apart.new_zeros(len(apart), 1), apart.cumsum(1)], 1)
    return sums.gather(1, counts) / counts
