"""Bounding boxes of image files, as ImageNet has them (`ILSVRC2012_bbox_val_v3.tgz`): one Pascal VOC XML an image."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import ClassVar

import numpy as np
from PIL import Image

from rapbench.core.errors import RapbenchError
from rapbench.core.files import open_regular
from rapbench.core.paths import user_path
from rapbench.data.labelled.dataset import is_inside
from rapbench.data.labelled.marks import Marks, NotMarked
from rapbench.data.layouts.bounded import TooLarge, small_members
from rapbench.data.layouts.image_files import files_below
from rapbench.data.marks.pairs import paired
from rapbench.data.marks.voc import MOST_BYTES, Annotation, read_voc

SUFFIX = ".xml"
MOST_FILES = 1_500_000
MOST_UNPACKED = 4 << 30  # bytes of an archive; that of ImageNet's training set has 0.8 billion
IMAGENET = re.compile(r"(ILSVRC2012_val_\d{8})(_n\d{8})?")  # a stem; on the Hugging Face hub with the synset


@dataclass(frozen=True)
class Boxes(Marks):
    """Boxes by image. Several of one image count together; those that fill an input say little [wang2020scorecam].

    place: the folder or archive. files: the XML file of each image. held: the bytes of those of an archive.
    """

    name: ClassVar[str] = "boxes"
    most: ClassVar[float] = 0.5

    place: Path
    files: dict[str, str] = field(repr=False)
    held: dict[str, bytes] = field(repr=False, default_factory=dict)

    def painted(self, file: str, size: tuple[int, int]) -> Image.Image:
        """Return the boxes' union. Raises NotMarked for an image without one, or of other proportions than theirs.

        A pixel is inside where its centre is. Coordinates run from 0, the image's left and upper edge, to its width
        and height in the size that the XML states. An image of another size with the same proportions has them scaled.
        """
        if file not in self.files:
            raise NotMarked("without a box")
        known = self._annotation(self.files[file])
        if not known.boxes:
            raise NotMarked("without a box")
        width, height = size
        if known.size and not _alike(known.size, size):
            said = " x ".join(f"{side:g}" for side in known.size)
            raise NotMarked(
                "with boxes of an image of other proportions", f"{width} x {height} pixels, its boxes are of {said}"
            )
        across, down = (own / said for own, said in zip(size, known.size or size, strict=True))
        inside = np.zeros((height, width), np.uint8)
        for left, top, right, bottom in known.boxes:
            inside[_pixels(top * down, bottom * down, height), _pixels(left * across, right * across, width)] = 255
        return Image.fromarray(inside)

    def _annotation(self, name: str) -> Annotation:
        where = f"{self.place / name}"
        if name in self.held:
            return read_voc(self.held[name], where)
        try:
            with open_regular(self.place / name) as opened:
                data = opened.read(MOST_BYTES + 1)
        except OSError as error:
            raise RapbenchError(f"data.boxes: {where} cannot be read ({error.strerror or error})") from error
        return read_voc(data, where)


def boxes_of(boxes: str, images: Sequence[str], key: Callable[[str], str] = str) -> Boxes:
    """Return the boxes of a data set's images.

    Parameters
    ----------
    boxes : str
        A folder of XML files, at any depth, or a tar archive of them, also compressed by gzip.
    images : sequence of str
        The images' names within the data set.
    key : callable, optional
        What an image and its XML file have in common, made of either one's name without its suffix. By default the
        path within the data set and within `boxes`, there with or without a folder that all XML files are in.

    Raises
    ------
    RapbenchError
        For a place that is missing, unreadable, or has no XML file of any of the images, and for names that are not
        of one image each.
    """
    place = user_path(boxes, "data.boxes").resolve()
    if place.is_dir():
        names, held = files_below(place, _is_xml), {}
    elif place.is_file():
        held = _unpacked(place)
        names = sorted(held)
    else:
        raise RapbenchError(f"data.boxes={boxes} is not a folder or an archive of {SUFFIX} files")
    if not names:
        raise RapbenchError(
            f"data.boxes={boxes} holds no {SUFFIX} files; expected one an image, in the Pascal VOC format"
        )
    files = paired(images, names, "data.boxes", key, wrapped=True)
    if not files:
        raise RapbenchError(
            f"data.boxes={boxes}: none of its {len(names):,} {SUFFIX} files, such as {names[0]}, has the name of one "
            f"of the {len(images):,} images, such as {images[0]}"
        )
    used = set(files.values())
    return Boxes(place, files, {name: data for name, data in held.items() if name in used})


def imagenet_key(name: str) -> str:
    """Return what ILSVRC-2012's image and its XML file have in common, whatever folder they are in: the stem."""
    stem = PurePosixPath(name).name
    known = IMAGENET.fullmatch(stem)
    return known[1] if known else stem


def _is_xml(name: str) -> bool:
    return name.lower().endswith(SUFFIX) and not any(part.startswith(".") for part in PurePosixPath(name).parts)


def _unpacked(path: Path) -> dict[str, bytes]:
    """Return the bytes of an archive's XML files, by name."""
    found: dict[str, bytes] = {}
    try:
        for name, data in small_members(path, lambda name: name.lower().endswith(SUFFIX), MOST_BYTES, MOST_UNPACKED):
            if not is_inside(name):
                raise RapbenchError(f"data.boxes: {path} has a member {name!r:.200}: a name that leads out of it")
            if _is_xml(name):
                found[name] = data
            if len(found) > MOST_FILES:
                raise TooLarge(f"it holds more than {MOST_FILES:,} {SUFFIX} files")
    except RapbenchError:
        raise
    except Exception as error:  # a damaged archive raises whatever its bytes lead to
        raise RapbenchError(f"data.boxes: {path} cannot be read as a tar archive ({error})") from error
    return found


def _alike(stated: tuple[float, float], size: tuple[int, int]) -> bool:
    """Whether a size is another one scaled, each side rounded to whole pixels."""
    low, high = ([(said + off) / own for said, own in zip(stated, size, strict=True)] for off in (-1, 1))
    return max(low) <= min(high)


def _pixels(begin: float, end: float, most: int) -> slice:
    """Return the pixels, of `most`, whose centres lie between two coordinates."""
    first, beyond = (min(max(int(np.ceil(at - 0.5)), 0), most) for at in (begin, end))
    return slice(first, max(first, beyond))
