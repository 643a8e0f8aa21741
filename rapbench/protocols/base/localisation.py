"""What of a heatmap lies inside the mask of its input: shared by the protocols that measure localisation."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.protocol import Protocol


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


class Localisation(Protocol):
    """One number for each input that has a mask: how far the positive relevance lies inside.

    An input without a mask, with an empty one, or without positive relevance has no value (NaN).
    """

    needs_masks: ClassVar[bool] = True

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return one variant with one number, for methods with positive relevance."""
        return {"": [""]} if "positive" in signs else {}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the number, (N, 1) float64, NaN where it is not defined."""
        inside = batch.once(("inside",), lambda: inside_of(batch))
        value = self.located(inside).double().masked_fill(~inside.defined, torch.nan)
        return {self.metrics[0].name: value[:, None]}

    @abstractmethod
    def located(self, inside: Inside) -> Tensor:
        """Return the number of each input, (N,); what it is where `inside.defined` is false does not matter."""

    def asked(self, signs: Sequence[str]) -> int:
        """Return 0: the heatmap and the mask are all that is looked at."""
        return 0


def inside_of(batch: Batch) -> Inside:
    """Return what of a batch's heatmaps lies inside the masks."""
    mask, ranking = batch.masks.flatten(1), batch.ranking("positive")
    relevance = batch.heatmaps.flatten(1).double().clamp(min=0)
    return Inside(mask, mask.sum(1), relevance, ranking.order, ranking.count, tuple(batch.heatmaps.shape[1:]))
