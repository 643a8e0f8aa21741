"""Deletion: the most relevant pixels are replaced first, until none is left."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.fills import NORMALISED
from rapbench.protocols.base.metric import Better
from rapbench.protocols.base.pixel_curve import PixelCurve
from rapbench.protocols.base.pixel_steps import replacing
from rapbench.protocols.base.whole_fills import WholeFill


@protocols.register("deletion")
@dataclass(frozen=True, kw_only=True)
class Deletion(PixelCurve):
    """Deletion [petsiuk2018rise]: the area under the output over the share of pixels replaced, most relevant first.

    Parameters
    ----------
    steps : int
        Equal ones, from none to all pixels.
    fill : str
        What pixels become, see `replaced`.
    output : {"probability", "logit"}
        Of the label.
    """

    step_name: ClassVar[str] = "share of pixels replaced"
    better: ClassVar[Better] = "lower"

    fill: WholeFill = "zero"

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the output after each step, (N, steps + 1)."""
        return {self.output: replacing(batch, "most", self.steps, self.fill).of(self.output)}

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED
