"""A data set: labelled inputs, in a fixed order."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from rapbench.core.errors import RapbenchError
from rapbench.core.files import open_regular
from rapbench.core.reading import CONTROL, is_text
from rapbench.data.labelled.marks import Marks

if TYPE_CHECKING:
    from torch import Tensor

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


@dataclass(frozen=True)
class Sample:
    """One input. file: its name within the data set, with `/`. label: its class index, or UNLABELLED."""

    file: str
    label: int


@dataclass(frozen=True)
class Dataset:
    """Labelled inputs: image files (`rapbench.load_data`), or tensors (`from_tensors`, `from_torch`).

    Parameters
    ----------
    name : str
    root : Path
        Below which the image files are.
    samples : sequence of Sample
        Of image files, sorted by name.
    description : str
        For the reports.
    embedded : bool
        Whether it is installed with rapbench.
    upright : bool
        Whether an image is turned as its EXIF orientation says.
    classes : int, or None
        How many there are for the labels, also those without an image; None: not known.
    class_names : tuple of str
        A name for each class, or none at all.
    marks : Marks, or None
        Where in each image file the object is, as far as files of its own say it.

    Notes
    -----
    Archives override `read`; they are pickled and forked into the processes that decode.
    """

    name: str
    root: Path
    samples: Sequence[Sample] = field(repr=False)
    description: str
    embedded: bool = False
    upright: bool = False
    classes: int | None = None
    class_names: tuple[str, ...] = ()
    marks: Marks | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise RapbenchError for a file name that no manifest, table or page could hold."""
        for sample in self.samples:
            if not is_text(sample.file) or CONTROL.search(sample.file):
                what = "holds control characters" if is_text(sample.file) else "is not UTF-8"
                raise RapbenchError(f"{self.where} has a file whose name {what}: {sample.file!r}; rename it")

    @staticmethod
    def from_tensors(
        inputs: Any,
        labels: Any = None,
        names: Sequence[str] | None = None,
        *,
        name: str = "tensors",
        class_names: Sequence[str] | str | Path = (),
        masks: Any = None,
    ) -> "Dataset":
        """Return a data set of preprocessed inputs in memory.

        Parameters
        ----------
        inputs : Tensor, array, or list of them, (N, C, *space)
            One to three spatial dimensions; floating point and finite. Computed with in float32, whatever their type.
        labels : Tensor, array or list of int, (N,), or None
            Class indices. None: what the model predicts becomes the label.
        names : sequence of str, or None
            What each input is called in tables; its index where none are given.
        name : str
            Of the data set, in tables.
        class_names : sequence of str, or the path of a text file with one a line
            In the order of the class indices.
        masks : Tensor, array, or list of them, (N, *space), or None
            Where in each input is what should be found: truth values, or 0 and 1. In a list, None stands for an input
            of which that is not known.

        Raises
        ------
        RapbenchError
            For what is no batch of preprocessed inputs, and for labels, names or masks that are not one for each.

        Examples
        --------
        >>> import rapbench, torch
        >>> data = rapbench.Dataset.from_tensors(torch.rand(4, 1, 32, 48), labels=[0, 2, 1, 0])
        >>> data.shape
        (1, 32, 48)
        """
        from rapbench.data.labelled.memory import from_tensors

        return from_tensors(inputs, labels, names, name=name, class_names=class_names, masks=masks)

    @staticmethod
    def from_torch(
        dataset: Any,
        names: Sequence[str] | None = None,
        *,
        name: str = "",
        class_names: Sequence[str] | str | Path = (),
    ) -> "Dataset":
        """Return a data set of a torch Dataset's items, (input, label) each, read when they are needed.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            With a length and items by index: a preprocessed input (C, *space), the same each time, and a class index.
        names, name, class_names
            As of `from_tensors`; the name is the class of `dataset` where it is empty.

        Raises
        ------
        RapbenchError
            For another kind of data set, and for items that are none such; later, when an item has changed.
        """
        from rapbench.data.labelled.memory import from_torch

        return from_torch(dataset, names, name=name, class_names=class_names)

    @property
    def where(self) -> str:
        """Where the inputs are, for a message."""
        return str(self.root)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The inputs' shape, (C, *space); None for files, from which the model's preprocessing makes inputs."""
        return None

    def tensor(self, file: str) -> "Tensor | None":
        """Return a preprocessed input, (C, *space) float32; None for files."""
        return None

    def mask(self, file: str) -> "Tensor | None":
        """Return where in an input is what should be found, (*space,) bool; None where that is not known.

        None for image files: what `marks` knows of them goes through the model's preprocessing.
        """
        return None

    def sha256(self, file: str) -> str:
        """Return the SHA-256 of an input: of a file's bytes. OSError when it cannot be read."""
        return hashlib.sha256(self.read(file)).hexdigest()

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
