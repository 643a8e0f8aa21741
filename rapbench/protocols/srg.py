"""Symmetric relevance gain: what it matters whether the least or the most relevant pixels go first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveInt
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Output
from rapbench.protocols.base.fills import NORMALISED
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.pixel_steps import area, replacing
from rapbench.protocols.base.single import Single
from rapbench.protocols.base.whole_fills import WholeFill


@protocols.register("srg")
@dataclass(frozen=True, kw_only=True)
class SymmetricRelevanceGain(Single):
    """Symmetric relevance gain [blucher2024decoupling]: the area between the curves of both orders of replacement.

    The area under the output with the least relevant pixels replaced first, minus that with the most relevant first. A
    fill that helps or harms any image as such enters both.

    Parameters
    ----------
    steps : int
        Equal ones, from none to all pixels.
    fill : str
        What pixels become, see `replaced`.
    output : {"logit", "probability"}
        Of the label.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("srg", {"": "higher"}, title="area between the curves", axis=None, decimals=3),
    )

    steps: PositiveInt = 25
    fill: WholeFill = "mean"
    output: Output = "logit"

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the area, (N,) float64."""
        least, most = (area(replacing(batch, order, self.steps, self.fill).of(self.output))
                       for order in ("least", "most"))  # fmt: skip
        return {"srg": least - most}

    def asked(self, signs: Sequence[str]) -> int:
        """Return the steps of both orders."""
        return 2 * self.steps

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED
