"""Faithfulness correlation: whether relevance in random subsets of the pixels tells what the output loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveInt
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Output
from rapbench.protocols.base.fills import NORMALISED
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.random_subsets import check_draws, check_sizes, correlations
from rapbench.protocols.base.single import Single
from rapbench.protocols.base.whole_fills import WholeFill


@protocols.register("faithfulness_correlation")
@dataclass(frozen=True, kw_only=True)
class FaithfulnessCorrelation(Single):
    """Faithfulness correlation [bhatt2020evaluating]: subsets of one size, relevance in them against the output lost.

    Pearson's correlation over random subsets, not defined (NaN) for a constant heatmap.

    Parameters
    ----------
    size : int
        Pixels in a subset.
    draws : int
        Subsets.
    fill : str
        What pixels become, see `replaced`.
    output : {"logit", "probability"}
        Of the label.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("faithfulness_correlation", {"": "higher"}, title="correlation over subsets", axis=None, decimals=3),
    )

    size: PositiveInt = 224
    draws: PositiveInt = 100
    fill: WholeFill = "zero"
    output: Output = "logit"

    def __post_init__(self) -> None:
        check_draws(self.draws)

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the correlation, (N,) float64."""
        self.check(batch.heatmaps.shape[1:])
        found = correlations(batch, [self.size], self.draws, self.fill, self.output)
        return {"faithfulness_correlation": found[:, 0]}

    def asked_once(self) -> int:
        """Return the number of subsets."""
        return self.draws

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError for inputs that have no more pixels than a subset."""
        check_sizes("size", [self.size], space)
