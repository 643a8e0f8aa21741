"""Insertion: the pixels of an image come into a blurred copy of it, most relevant first."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import AfterValidator, PositiveFloat, PositiveInt
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.blur import gaussian_blur
from rapbench.protocols.base.metric import Better
from rapbench.protocols.base.pixel_curve import PixelCurve
from rapbench.protocols.base.pixel_steps import inserting


def _odd(kernel: int) -> int:
    if kernel % 2 == 0:
        raise ValueError("it must be odd")
    return kernel


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

    kernel: Annotated[PositiveInt, AfterValidator(_odd)] = 11
    sigma: PositiveFloat = 5.0

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the output after each step, (N, steps + 1); that after none is the blurred image's."""
        blur = ("blurred", self.kernel, self.sigma)
        blurred = batch.for_every_method(blur, lambda: gaussian_blur(batch.inputs, self.sigma, self.kernel))
        return {self.output: inserting(batch, self.steps, blur, blurred).of(self.output)}

    def asked(self, signs: Sequence[str]) -> int:
        """Return every step's answer, the blurred image's too."""
        return self.steps + 1
