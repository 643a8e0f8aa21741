"""Where the object is in an image file, as a picture that a model's preprocessing can take in its place."""

from PIL import Image

from rapbench.core.errors import RapbenchError
from rapbench.data.decoding.picture import BrokenImage, stored
from rapbench.data.labelled.dataset import Dataset


def painted(dataset: Dataset, file: str) -> Image.Image:
    """Return where the object is in an image, turned as the image is: an L picture, 255 inside and 0 outside.

    dataset: one that has marks. Raises NotMarked where that is not known, and RapbenchError for an image that cannot be
    read, and for what Marks.painted does.
    """
    if dataset.marks is None:
        raise ValueError(f"{dataset.where} has no marks")
    try:
        size, turn = stored(dataset.read(file))
    except (BrokenImage, OSError) as error:
        raise RapbenchError(f"{file} in {dataset.where} cannot be read ({error})") from error
    region = dataset.marks.painted(file, size)
    return region if turn is None or not dataset.upright else region.transpose(turn)
