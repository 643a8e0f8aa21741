"""Masks of image files: a PNG each, of the image's own size, whose pixels inside are not black."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from PIL import Image

from rapbench.core.errors import RapbenchError
from rapbench.core.files import NOT_THE_FILES, open_regular
from rapbench.core.paths import user_path
from rapbench.data.decoding.picture import BrokenImage, taken
from rapbench.data.labelled.dataset import MOST_BYTES, refuse_large
from rapbench.data.labelled.marks import Marks, NotMarked
from rapbench.data.layouts.image_files import files_below, is_image
from rapbench.data.marks.pairs import paired

if TYPE_CHECKING:
    from numpy.typing import NDArray

BESIDE = ".mask.png"  # dog.mask.png beside dog.jpg
SUFFIX = ".png"


@dataclass(frozen=True)
class Pictures(Marks):
    """Masks by image. place: the folder. files: the mask of each image, within it."""

    name: ClassVar[str] = "mask"

    place: Path
    files: dict[str, str] = field(repr=False)

    def painted(self, file: str, size: tuple[int, int]) -> Image.Image:
        """Return a mask. Raises NotMarked without one, and RapbenchError for one that is broken or of another size."""
        if file not in self.files:
            raise NotMarked("without a mask")
        path = self.place / self.files[file]
        try:
            with open_regular(path) as opened:
                refuse_large(opened.seek(0, 2))
                opened.seek(0)
                inside = taken(opened.read(MOST_BYTES), _inside, ("PNG",))
        except BrokenImage as error:
            raise RapbenchError(f"the mask {path} cannot be decoded ({error}); mend or remove it") from error
        except OSError as error:
            if error.errno in NOT_THE_FILES:
                raise
            raise RapbenchError(f"the mask {path} cannot be read ({error.strerror or error})") from error
        if inside.shape[::-1] != size:
            height, width = inside.shape
            raise RapbenchError(
                f"the mask {path} has {width} x {height} pixels, its image {file} {size[0]} x {size[1]} as it is "
                "stored; a mask must be of its image's size"
            )
        return Image.fromarray(np.where(inside, np.uint8(255), np.uint8(0)))


def is_beside(name: str) -> bool:
    """Whether a file among images is the mask of one of them."""
    return name.lower().endswith(BESIDE)


def beside(root: Path, images: Sequence[str], masks: Sequence[str]) -> Pictures:
    """Return the masks that lie beside images. Raises RapbenchError for one without an image, or with several."""
    shortened = {name[: -len(BESIDE)] + SUFFIX: name for name in masks}
    files = paired(images, list(shortened), "masks beside images")
    if len(files) < len(masks):
        known = set(files.values())
        alone = next(name for short, name in shortened.items() if short not in known)
        raise RapbenchError(f"{root / alone} is a mask by its name, and there is no image {alone[: -len(BESIDE)]}.*; "
                            "rename or remove it")  # fmt: skip
    return Pictures(root, {image: shortened[short] for image, short in files.items()})


def masks_in(folder: str, images: Sequence[str]) -> Pictures:
    """Return the masks in a folder of their own: `a/dog.png` for the image `a/dog.jpg`.

    Raises RapbenchError for what is no folder, or has a mask of none of the images.
    """
    place = user_path(folder, "data.masks").resolve()
    if not place.is_dir():
        raise RapbenchError(f"data.masks={folder} is not a folder of masks")
    names = files_below(place, lambda name: is_image(name) and name.lower().endswith(SUFFIX))
    files = paired(images, names, "data.masks")
    if not files:
        raise RapbenchError(
            f"data.masks={folder} has no mask of any of the {len(images):,} images; expected such as "
            f"{Path(images[0]).with_suffix(SUFFIX)} for {images[0]}"
        )
    return Pictures(place, files)


def _inside(image: Image.Image) -> "NDArray[np.bool_]":
    """Return which pixels are neither black nor wholly transparent, (height, width) bool."""
    if image.mode[:1] in ("1", "L", "I", "F") and image.mode != "LA":
        return np.asarray(image).astype(bool)
    coloured = np.asarray(image.convert("RGBA")).astype(bool)
    return np.asarray(coloured[..., :3].any(-1) & coloured[..., 3])
