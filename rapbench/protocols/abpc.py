"""ABPC: the area between the two curves of region perturbation, least and most relevant regions first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.regions import RegionPerturbation


@protocols.register("abpc")
@dataclass(frozen=True, kw_only=True)
class Abpc(RegionPerturbation):
    """Area between perturbation curves [samek2017evaluating], [nguyen2020quantitative]: AOPC(MoRF) - AOPC(LeRF).

    Its options are those of `regions`, whose answers of the model it shares.
    """

    table: ClassVar[str] = ""
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("abpc", {"": "higher"}, title="area between the curves", axis=None, decimals=3),
    )

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return one variant with one number, whatever the signs."""
        return {"": [""]}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the area, (N, 1) float64."""
        least, most = (self.answers(batch, order).of(self.output).double() for order in ("lerf", "morf"))
        return {"abpc": (least - most).mean(1, keepdim=True)}

    def asked(self, signs: Sequence[str]) -> int:
        """Return the steps of both orders."""
        return 2 * self.steps
