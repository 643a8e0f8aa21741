"""A data set: labelled images, in a fixed order."""

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from rapbench.errors import RapbenchError
from rapbench.reading import is_text

UNLABELLED = -1
CONTROL = re.compile(r"[\x00-\x1f\x7f]")


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
        """Return an image file's bytes; OSError when it is not there."""
        return (self.root / file).read_bytes()
