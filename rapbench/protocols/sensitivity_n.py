"""Sensitivity-n: whether relevance in random subsets of n pixels tells what the output loses, for many n."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import PositiveInt
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Output, Step
from rapbench.protocols.base.fills import NORMALISED
from rapbench.protocols.base.ks import check_list, number_of
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.protocol import Protocol
from rapbench.protocols.base.random_subsets import check_draws, check_sizes, correlations
from rapbench.protocols.base.whole_fills import WholeFill

# From 1 pixel to 80 % of 224 x 224, in equal ratios.
SIZES: tuple[int | str, ...] = (
    1, "0.0065%", "0.021%", "0.068%", "0.22%", "0.72%", "2.3%", "7.6%", "25%", "80%",
)  # fmt: skip
MOST_SIZES = 100


@protocols.register("sensitivity_n")
@dataclass(frozen=True, kw_only=True)
class SensitivityN(Protocol):
    """Sensitivity-n [ancona2018towards]: subsets of many sizes, relevance in them against the output lost.

    Pearson's correlation over random subsets of each size, and the mean over the sizes. It is not defined (NaN) where
    relevance or output is the same for all subsets, such as for a constant heatmap.

    Parameters
    ----------
    sizes : sequence of int or str
        Pixels in a subset, as numbers or as shares of all pixels such as 25%, ascending. Of the default ones, those
        that are no pixel more than the one before are left out where inputs are small.
    draws : int
        Subsets of each size.
    fill : str
        What pixels become, see `replaced`.
    output : {"logit", "probability"}
        Of the label.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("correlation", {"": "higher"}, title="correlation over subsets", axis="log", decimals=3),
    )
    summaries: ClassVar[Sequence[Metric]] = (
        Metric("sensitivity_n", {"": "higher"}, title="mean correlation over sizes", axis=None, decimals=3),
    )
    step_name: ClassVar[str] = "pixels in a subset"

    sizes: Sequence[int | str] = field(default_factory=lambda: list(SIZES))
    draws: PositiveInt = 100
    fill: WholeFill = "zero"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_list("sizes", self.sizes)
        check_draws(self.draws)
        if {0, "all", "100%"} & set(self.sizes) or len(self.sizes) > MOST_SIZES:
            raise RapbenchError(
                f"sizes must be up to {MOST_SIZES}, of at least 1 pixel and less than all, got "
                f"{list(self.sizes)!s:.100}"
            )

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the sizes, whatever the signs."""
        return {"": list(self.sizes)}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the correlation at each size, (N, sizes) float64."""
        self.check(batch.heatmaps.shape[1:])
        sizes = self.numbers(batch.heatmaps[0].numel())
        return {"correlation": correlations(batch, sizes, self.draws, self.fill, self.output)}

    def summary(self, curves: Mapping[str, np.ndarray], steps: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the mean over all sizes, (N,); NaN where one has no correlation."""
        return {"sensitivity_n": curves["correlation"].mean(axis=1)}

    def numbers(self, pixels: int) -> list[int]:
        """Return the sizes as numbers of pixels, of inputs that have `pixels`."""
        return [number_of(size, pixels) for size in self.sizes]

    def asked(self, signs: Sequence[str]) -> int:
        """Return 0: no heatmap enters the questions."""
        return 0

    def asked_once(self) -> int:
        """Return the number of subsets of all sizes."""
        return len(self.sizes) * self.draws

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED

    def fitted(self, space: Sequence[int]) -> dict[str, Any]:
        """Return the default sizes without those that are no pixel more than the one before, or all pixels."""
        if list(self.sizes) != list(SIZES):
            return {}
        pixels, last = math.prod(space), 0
        fitting = []
        for size, number in zip(self.sizes, self.numbers(pixels), strict=True):
            if last < number < pixels:
                fitting.append(size)
                last = number
        return {} if fitting == list(SIZES) or not fitting else {"sizes": fitting}

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError where the sizes are no pixel, all pixels, or do not ascend."""
        check_sizes("sizes", self.numbers(math.prod(space)), space)
