"""A data set: labelled image files, in a fixed order."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Sample:
    """One labelled image. file: its name within the data set, with `/`. label: its class index."""

    file: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Image files below `root`, sorted by name. description: for the reports. embedded: installed with rapbench."""

    name: str
    root: Path
    samples: list[Sample] = field(repr=False)
    description: str
    embedded: bool = False
    upright: bool = False

    @property
    def identity(self) -> str:
        return repr(self.samples)

    def read(self, file: str) -> bytes:
        """Return an image file's bytes; OSError when it is not there."""
        return (self.root / file).read_bytes()
