"""Insertion: the pixels of an image come into a blurred copy of it, most relevant first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.blur import gaussian_blur
from rapbench.protocols.base.metric import Better
from rapbench.protocols.base.pixel_curve import PixelCurve
from rapbench.protocols.base.pixel_steps import inserting


@protocols.register("insertion")
@dataclass(frozen=True, kw_only=True)
class Insertion(PixelCurve):
    """Insertion [petsiuk2018rise]: the area under the output over the share of pixels inserted, most relevant first.

    Parameters
    ----------
    steps : int
        Equal ones, from none to all pixels.
    kernel : int
        Width of the Gaussian blur, in pixels.
    sigma : float
        Standard deviation of the blur, in pixels.
    output : {"probability", "logit"}
        Of the label.
    """

    step_name: ClassVar[str] = "share of pixels inserted"
    better: ClassVar[Better] = "higher"

    kernel: PositiveInt = 11
    sigma: PositiveFloat = 5.0

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise RapbenchError(f"kernel={self.kernel} must be odd, so that the blur has a middle")

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the output after each step, (N, steps + 1); that after none is the blurred image's."""
        blur = ("blurred", self.kernel, self.sigma)
        blurred = batch.for_every_method(blur, lambda: gaussian_blur(batch.inputs, self.sigma, self.kernel))
        return {self.output: inserting(batch, self.steps, blur, blurred).of(self.output)}

    def asked(self, signs: Sequence[str]) -> int:
        """Return every step's answer, the blurred image's too."""
        return self.steps + 1
