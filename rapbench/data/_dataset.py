"""A data set: labelled images, in a fixed order."""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from rapbench.errors import RapbenchError
from rapbench.files import open_regular
from rapbench.reading import is_text

UNLABELLED = -1
MOST_IMAGES = 1_500_000  # of one archive; more than ImageNet's training set
MOST_BYTES = 256 << 20  # of one image file; the largest picture that is decoded, uncompressed, is smaller


def is_inside(file: str) -> bool:
    """Whether a name is one of a file within a data set: relative, and climbing nowhere.

    Names come from manifests and archives. What a link within the data set leads to is the user's own choice.
    """
    path = PurePath(file)
    return bool(path.name) and not path.anchor and ".." not in path.parts and "\0" not in file


def refuse_large(size: int) -> None:
    """Raise OSError for a file of `size` bytes that is too large for an image."""
    if size > MOST_BYTES:
        raise OSError(f"{size:,} bytes, and an image file of more than {MOST_BYTES >> 20} MiB is not read")


CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True)
class Sample:
    """One image. file: its name within the data set, with `/`. label: its class index, or UNLABELLED."""

    file: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Image files below `root`, sorted by name. description: for the reports. embedded: installed with rapbench.

    upright: whether an image is turned as its EXIF orientation says. classes: how many there are for the labels, also
    those without an image; None where that is not known. Archives override `read`; they are pickled and forked into the
    processes that decode.
    """

    name: str
    root: Path
    samples: list[Sample] = field(repr=False)
    description: str
    embedded: bool = False
    upright: bool = False
    classes: int | None = None

    def __post_init__(self) -> None:
        """Raise RapbenchError for a file name that no manifest, table or page could hold."""
        for sample in self.samples:
            if not is_text(sample.file) or CONTROL.search(sample.file):
                what = "holds control characters" if is_text(sample.file) else "is not UTF-8"
                raise RapbenchError(f"{self.root} has a file whose name {what}: {sample.file!r}; rename it")

    @property
    def identity(self) -> str:
        """SHA-256 of the manifest: every file name with its label, sorted, and whether images are turned upright."""
        lines = sorted(f"{sample.file} {sample.label}" for sample in self.samples)
        text = "\n".join([*lines, f"upright={self.upright}"])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def read(self, file: str) -> bytes:
        """Return an image file's bytes; OSError when it is not there, or is a folder, a pipe or a device."""
        if not is_inside(file):
            raise OSError("its name leads out of the data set")
        with open_regular(self.root / file) as opened:
            refuse_large(os.fstat(opened.fileno()).st_size)
            return opened.read()
