"""What of a heatmap lies inside the mask of its input: shared by the protocols that measure localisation."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.single import Single


@dataclass(frozen=True)
class Inside:
    """Positive relevance against the masks of N inputs of n pixels.

    Attributes
    ----------
    mask : Tensor, (N, n) bool
        Whether a pixel lies inside.
    size : Tensor, (N,)
        Number of pixels inside.
    relevance : Tensor, (N, n) float64
        What is positive of it, 0 elsewhere.
    order : Tensor, (N, n)
        Positions by rank, most relevant first, as `ranking.rank_pixels` has them.
    count : Tensor, (N,)
        Number of pixels with positive relevance.
    space : tuple of int
        The map's shape.
    """

    mask: Tensor
    size: Tensor
    relevance: Tensor
    order: Tensor
    count: Tensor
    space: tuple[int, ...]

    @property
    def defined(self) -> Tensor:
        """(N,) whether there is anything to find, and any positive relevance."""
        return (self.size > 0) & (self.count > 0)


class Localisation(Single):
    """One number for each input that has a mask: how far the positive relevance lies inside.

    An input without a mask, with an empty one, or without positive relevance has no value (NaN).
    """

    needs_masks: ClassVar[bool] = True

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return one variant with one number, for methods with positive relevance."""
        return super().variants(signs) if "positive" in signs else {}

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the number, (N,) float64, NaN where it is not defined."""
        inside = batch.once(("inside",), lambda: inside_of(batch))
        value = self.located(inside).double().masked_fill(~inside.defined, torch.nan)
        return {self.metrics[0].name: value}

    @abstractmethod
    def located(self, inside: Inside) -> Tensor:
        """Return the number of each input, (N,); what it is where `inside.defined` is false does not matter."""


def inside_of(batch: Batch) -> Inside:
    """Return what of a batch's heatmaps lies inside the masks."""
    mask, ranking = batch.masks.flatten(1), batch.ranking("positive")
    relevance = batch.heatmaps.flatten(1).double().clamp(min=0)
    return Inside(mask, mask.sum(1), relevance, ranking.order, ranking.count, tuple(batch.heatmaps.shape[1:]))
