"""Which stored heatmap belongs to which image: by the image's name, its SHA-256, or its place in the subset."""

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from rapbench.core.errors import RapbenchError
from rapbench.heatmaps.stored import Stored, open_stored

Found = TypeVar("Found", bound=Hashable)
NAMED = "name each by its image's whole name in the data set, or by the image's SHA-256"
SHOWN = 3  # images that a message names


class Row(Protocol):
    """An image of a run. file: its name within the data set, with `/`."""

    @property
    def file(self) -> str:
        """The name."""

    @property
    def sha256(self) -> str:
        """Of the file's bytes."""


def in_folder(folder: Path, rows: Sequence[Row]) -> list[Stored]:
    """Return each image's heatmap, a .npy or .safetensors file in a folder. Raises RapbenchError, see `_each`."""

    def find(name: str) -> list[Path]:
        paths = [folder / f"{name}{kind}" for kind in (".npy", ".safetensors")]
        return [path for path in paths if os.path.isfile(path)]

    return [_only(path) for path in _each(f"{folder}", rows, find)]


def by_name(where: str, arrays: Mapping[str, Stored], rows: Sequence[Row], order: Sequence[Row]) -> list[Stored]:
    """Return each image's heatmap among arrays by name; the only one of all is a stack. Raises RapbenchError."""
    if len(arrays) == 1 and not any(name in arrays for row in order for name in names_of(row)):
        return stacked(next(iter(arrays.values())), rows, order)
    return [arrays[name] for name in _each(where, rows, lambda name: [name] if name in arrays else [])]


def stacked(stack: Stored, rows: Sequence[Row], order: Sequence[Row]) -> list[Stored]:
    """Return each image's heatmap in a stack, whose order is given. Raises RapbenchError for another number."""
    if not stack.shape or stack.shape[0] != len(order):
        count = stack.shape[0] if stack.shape else 0
        raise RapbenchError(
            f"{stack.where} has shape {stack.shape}: {count:,} heatmaps, and the run has {len(order):,} images; a "
            "stack has one for each, in the order of the run's manifest.csv (subset.manifest=), in Python of the inputs"
        )
    places = {row.file: place for place, row in enumerate(order)}
    return [stack.part(places[row.file]) for row in rows]


def names_of(row: Row) -> list[str]:
    """Return what an image's heatmap may be called: the image's name, without folder or ending too, or its SHA-256."""
    path = PurePosixPath(row.file)
    return list(dict.fromkeys([row.file, str(path.with_suffix("")), path.name, path.stem, row.sha256]))


def _each(where: str, rows: Sequence[Row], find: Callable[[str], list[Found]]) -> list[Found]:
    """Return what is found for each image under one of its names.

    Raises RapbenchError for images without any or with several, and for what would be two images' one.
    """
    found = [[each for name in names_of(row) for each in find(name)] for row in rows]
    if missing := [row.file for row, each in zip(rows, found, strict=True) if not each]:
        more = ", ..." if len(missing) > SHOWN else ""
        raise RapbenchError(
            f"{where} has no heatmap for {len(missing):,} of {len(rows):,} images "
            f"({', '.join(missing[:SHOWN])}{more}); {NAMED}"
        )
    taken: dict[Found, Row] = {}
    for row, each in zip(rows, found, strict=True):
        if len(each) > 1:
            raise RapbenchError(f"{where} has several heatmaps for {row.file}: {', '.join(map(str, each))}; leave one")
        other = taken.setdefault(each[0], row)
        if other.sha256 != row.sha256:
            raise RapbenchError(f"{each[0]} would be the heatmap of both {other.file} and {row.file}; {NAMED}")
    return [each[0] for each in found]


def _only(path: Path) -> Stored:
    found = open_stored(path)
    if isinstance(found, Stored):
        return found
    if len(found) != 1:
        raise RapbenchError(f"{path} holds {len(found)} tensors; a heatmap is one")
    return next(iter(found.values()))
