"""Where a region of a picture lies in the input that a preprocessing makes of the picture."""

from collections.abc import Callable

import torch
from PIL import Image
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.model.preprocessing import Stated

# Of what a pixel is made of, inside. Half, but for rounding: of pixels in 0..255 the next lower share is 0.498.
HALF = 0.499
BEYOND = 0.5  # bicubic interpolation overshoots 0..1 by less than this
KEPT = 8  # sizes of pictures


class Placement:
    """Carries regions through a preprocessing, whatever it is, by having it preprocess them.

    A picture that is white inside and black outside is preprocessed, and compared with the pictures of the same size
    that are all black and all white. So whatever is done to the colours cancels, and a region is resized, cropped,
    padded and turned exactly as its picture is.

    Parameters
    ----------
    transform : callable
        From an RGB picture to an input, (C, *space). Where a pixel goes must depend on the picture's size alone.
    """

    def __init__(self, transform: Callable[[Image.Image], Tensor]):
        self.transform = transform
        self._ends: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}

    def __call__(self, region: Image.Image) -> Tensor:
        """Return where a region lies in the input, (*space,) bool.

        Parameters
        ----------
        region : Image
            An L picture, 255 inside and 0 outside.

        Returns
        -------
        Tensor, (*space,) bool
            A pixel is inside if at least half of what it is interpolated from is; padding is outside.

        Raises
        ------
        RapbenchError
            For a transform that does not keep its pixels' places: one that is random, or scales each picture's values
            by its own range.
        """
        black, span = self._ends_of(region.size)
        seen = self._made(region)
        if isinstance(self.transform, Stated) and self.transform.picture and not seen.equal(self._made(region)):
            raise RapbenchError("the model's transform makes another input of the same picture each time, so no box or "
                                "mask can be placed in it; leave out what is random")  # fmt: skip
        reach = span.square().sum(0)
        share = ((seen - black) * span).sum(0) / torch.where(reach > 0, reach, 1)
        if not ((share >= -BEYOND) & (share <= 1 + BEYOND)).all() or not (reach > 0).any():
            raise RapbenchError(
                "the model's transform does not treat pixels alike in all pictures, so no box or mask can be placed in "
                "its inputs; it may only resize, crop and scale values by fixed numbers"
            )
        return share > HALF

    def _ends_of(self, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Return what a black picture becomes, and how far from it a white one is, (C, *space) each."""
        if size not in self._ends:
            if len(self._ends) == KEPT:
                self._ends.clear()
            black, white = (self._made(Image.new("L", size, value)) for value in (0, 255))
            self._ends[size] = black, white - black
        return self._ends[size]

    def _made(self, region: Image.Image) -> Tensor:
        return self.transform(region.convert("RGB")).double()
