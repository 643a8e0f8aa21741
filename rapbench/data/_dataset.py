"""A data set: labelled images, in a fixed order."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from rapbench.files import open_regular

UNLABELLED = -1


@dataclass(frozen=True)
class Sample:
    """One image. file: its name within the data set, with `/`. label: its class index, or UNLABELLED."""

    file: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Image files below `root`, sorted by name. description: for the reports. embedded: installed with rapbench.

    upright: whether an image is turned as its EXIF orientation says. Archives override `read`; they are pickled and
    forked into the processes that decode.
    """

    name: str
    root: Path
    samples: list[Sample] = field(repr=False)
    description: str
    embedded: bool = False
    upright: bool = False

    @property
    def identity(self) -> str:
        """SHA-256 of the manifest: every file name with its label, sorted, and whether images are turned upright."""
        lines = sorted(f"{sample.file} {sample.label}" for sample in self.samples)
        text = "\n".join([*lines, f"upright={self.upright}"])
        return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()

    def read(self, file: str) -> bytes:
        """Return an image file's bytes; OSError when it is not there, or is a pipe or a device."""
        with open_regular(self.root / file) as opened:
            return opened.read()
