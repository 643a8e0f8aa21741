"""Pointing game: whether the most relevant pixel lies inside the mask, or near it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.localisation import Inside, Localisation
from rapbench.protocols.base.metric import Metric

NEAR, AT = 15, 224  # pixels, of inputs with this side


@protocols.register("pointing_game")
@dataclass(frozen=True, kw_only=True)
class PointingGame(Localisation):
    """Pointing game [zhang2018top]: whether the most relevant pixel lies inside the mask, or near it.

    Parameters
    ----------
    tolerance : float, optional
        Euclidean distance to the mask, in pixels, that counts as inside. By default the source's 15 pixels of 224,
        in proportion: round(15 / 224 * side), with the shorter side of the input.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric(
            "pointing_game", {"": "higher"}, title="hits", unit="%", kind="share", axis=None, decimals=1, undefined=True
        ),
    )

    tolerance: NonNegativeFloat | None = None

    def located(self, inside: Inside) -> Tensor:
        """Return 1 for a hit and 0 for a miss, (N,)."""
        near = round(NEAR / AT * min(inside.space)) if self.tolerance is None else self.tolerance
        place = torch.arange(inside.mask.shape[1], device=inside.mask.device)
        best = inside.order[:, 0]
        squared = torch.zeros_like(inside.order)
        for length in reversed(inside.space):
            squared += (place % length - (best % length)[:, None]) ** 2
            place, best = place // length, best // length
        return (inside.mask & (squared <= near**2)).any(1)
