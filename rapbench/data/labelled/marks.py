"""What is known of where in image files the object is, before a model's preprocessing."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from PIL import Image


class NotMarked(Exception):
    """An image of which it is not known where the object is, and why: one of few phrases, for counts.

    detail: of this image alone, for a line on the terminal.
    """

    def __init__(self, reason: str, detail: str = ""):
        super().__init__(reason)
        self.detail = detail


class Marks(ABC):
    """Where in each image file the object is.

    Attributes
    ----------
    name : str
        What there is of an image, as in "nothing of its boxes".
    most : float
        The share of a model's input that they may cover; beyond it the input counts as not known.
    """

    name: ClassVar[str]
    most: ClassVar[float] = 1.0

    @abstractmethod
    def painted(self, file: str, size: tuple[int, int]) -> "Image.Image":
        """Return where the object is in an image, as an L picture: 255 inside, 0 outside.

        Parameters
        ----------
        file : str
            The image's name within its data set.
        size : tuple of int
            The image's (width, height) in pixels, as it is stored: before any EXIF orientation is applied.

        Raises
        ------
        NotMarked
            Where that is not known.
        RapbenchError
            For a file that says it and cannot be read, or is of another image.
        """
