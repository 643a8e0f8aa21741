"""Cubes of computed tomography around candidates for lung nodules, and a data set of some of them."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, overload

import numpy as np
import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.labelled.memory import hash_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CLASS_NAMES = ("other", "nodule")
REAL = "LUNA16"
SIZE = 32  # voxels; the side of a cube [nam2019rap]
MARGIN = 8  # voxels; what turning, shearing, scaling and shifting a nodule's cube brings in
AIR = -1000  # HU
WINDOW = (-1000.0, 400.0)  # HU


class Cubes(ABC):
    """Candidates for lung nodules, with a cube of Hounsfield units around each.

    Attributes
    ----------
    name : str
        What the numbers are of, as it stands beside them.
    identity : str
        SHA-256 of what decides the candidates and their cubes.
    scans : tuple of str
        Series UIDs, sorted.
    scan : (N,) int32
        The scan that each candidate is of, an index into `scans`.
    label : (N,) uint8
        1: a nodule.
    names : sequence of str
        What each candidate is called, each but once.
    subset : (scans,) int32, or None
        LUNA16's subset of each scan, None where there are none.
    window : pair of float
        The HU that become 0 and 1.
    size, margin : int
        The side of a cube, and how many more voxels a nodule has at hand on each side.
    """

    name: str
    identity: str
    scans: tuple[str, ...]
    scan: "NDArray[np.int32]"
    label: "NDArray[np.uint8]"
    names: Sequence[str]
    subset: "NDArray[np.int32] | None" = None
    window: tuple[float, float] = WINDOW
    size: int = SIZE
    margin: int = MARGIN

    def prepare(self, indices: "NDArray[np.integer]") -> None:  # noqa: B027  nothing, where all are at hand
        """Have the cubes of some candidates at hand, scan by scan, with progress; others are slow to get."""

    @abstractmethod
    def cube(self, index: int, margin: int = 0) -> "NDArray[np.int16]":
        """Return a candidate's cube in HU, (size + 2 margin,) * 3 in the order z, y, x; margin: 0 unless a nodule."""

    @abstractmethod
    def mask(self, index: int, margin: int = 0) -> "NDArray[np.bool_] | None":
        """Return where the nodule is, of the cube's shape; None where that is not known, or nothing is to be found."""

    def scaled(self, cube: "NDArray[np.int16]") -> "NDArray[np.float32]":
        """Return HU on 0..1 by the window, what is beyond it cut off."""
        low, high = self.window
        found = (cube.astype(np.float32) - np.float32(low)) / np.float32(high - low)
        return np.asarray(np.clip(found, 0, 1), dtype=np.float32)

    def inner(self, stored: "NDArray[np.generic]", margin: int) -> "NDArray[np.generic]":
        """Return the middle of what is stored with some margin, `margin` voxels wider than a cube on each side."""
        cut = (stored.shape[0] - self.size) // 2 - margin
        if margin < 0 or cut < 0:
            raise ValueError(f"a margin of {margin} where {(stored.shape[0] - self.size) // 2} is at hand")
        return stored[(slice(cut, stored.shape[0] - cut),) * stored.ndim]


def described(name: str) -> str:
    """Return what stands wherever a number does: what the data are, and what they are not."""
    return name if name == REAL else f"{name}, not {REAL}"


def checked_window(window: Sequence[float] | None) -> tuple[float, float]:
    """Return an intensity window, None: the usual one. Raises RapbenchError unless it is two rising numbers."""
    if window is None:
        return WINDOW
    if len(window) != 2 or not window[0] < window[1]:
        raise RapbenchError(f"data.window={list(window)} must be two rising numbers in HU, such as [-1000,400]")
    return float(window[0]), float(window[1])


class _Samples(Sequence[Sample]):
    """The chosen candidates as samples, each made when it is asked for."""

    def __init__(self, cubes: Cubes, indices: "NDArray[np.int64]"):
        self.cubes, self.indices = cubes, indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, place: int) -> Sample: ...
    @overload
    def __getitem__(self, place: slice) -> "_Samples": ...
    def __getitem__(self, place: int | slice) -> "Sample | _Samples":
        if isinstance(place, slice):
            return _Samples(self.cubes, self.indices[place])
        index = int(self.indices[place])
        return Sample(self.cubes.names[index], int(self.cubes.label[index]))


@dataclass(frozen=True)
class CubeDataset(Dataset):
    """Some candidates as inputs, (1, 32, 32, 32) on 0..1. indices: which of the cubes; sorted."""

    cubes: Cubes = field(kw_only=True, repr=False)
    indices: "NDArray[np.int64]" = field(kw_only=True, repr=False)

    def __post_init__(self) -> None:
        """Check nothing: names are made of series UIDs, which were checked when they were read."""

    @property
    def where(self) -> str:
        """What the inputs are of, for a message."""
        return f"the data set {self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The inputs' shape, (1, z, y, x)."""
        return (1, *(self.cubes.size,) * 3)

    @cached_property
    def identity(self) -> str:
        """SHA-256 of the candidates, of what their cubes are cut from and how, of the window and of the choice."""
        digest = hashlib.sha256(f"{self.cubes.identity} {self.cubes.window}\n".encode())
        digest.update(np.ascontiguousarray(self.indices, dtype="<i8").tobytes())
        return digest.hexdigest()

    def tensor(self, file: str) -> Tensor:
        """Return a candidate's cube on 0..1, (1, z, y, x) float32."""
        return torch.from_numpy(self.cubes.scaled(self.cubes.cube(self._index(file)))[None])

    def mask(self, file: str) -> Tensor | None:
        """Return where the nodule is in a candidate's cube, (z, y, x) bool; None where that is not known."""
        found = self.cubes.mask(self._index(file))
        return None if found is None else torch.from_numpy(np.array(found))

    def sha256(self, file: str) -> str:
        """Return the SHA-256 of an input, over its type, shape and bytes."""
        return hash_of(self.tensor(file))

    def read(self, file: str) -> bytes:
        """Raise OSError: there are no image files."""
        raise OSError(f"{self.where} is of cubes, not of files")

    @cached_property
    def _places(self) -> dict[str, int]:
        return {self.cubes.names[index]: int(index) for index in self.indices}

    def _index(self, file: str) -> int:
        if file not in self._places:
            raise RapbenchError(f"{self.where} has no input {file!r}")
        return self._places[file]


def as_dataset(name: str, cubes: Cubes, indices: "NDArray[np.int64]", what: str) -> CubeDataset:
    """Return some of the cubes as a data set. name: as it is registered. what: which they are, for the reports."""
    found = np.sort(indices)
    nodules = int(cubes.label[found].sum())
    counts = f"{len(found):,} candidates of {described(cubes.name)}, {nodules:,} of them nodules"
    return CubeDataset(
        name, Path(), _Samples(cubes, found), f"{counts} ({what})", classes=len(CLASS_NAMES), class_names=CLASS_NAMES,
        cubes=cubes, indices=found,
    )  # fmt: skip
