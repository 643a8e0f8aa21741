"""Image files in folders: which names are images, and what a folder holds."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import UNLABELLED, Sample

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")


def is_image(name: str) -> bool:
    """Whether a name within a folder or an archive is an image's; what a dot hides, as macOS's ._ files, is not."""
    hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
    return not hidden and name.lower().endswith(SUFFIXES)


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return what a folder holds, sorted by name. Raises RapbenchError when it cannot be read."""
    try:
        with os.scandir(folder) as found:
            return sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise RapbenchError(f"{folder} cannot be read ({error.strerror}); give yourself access to it") from error


def images_in(folder: Path) -> list[str]:
    """Return the names of the images in a folder, sorted."""
    return [entry.name for entry in entries(folder) if is_image(entry.name) and not entry.is_dir()]


def unlabelled_below(folder: Path) -> list[Sample]:
    """Return the images below a folder, at any depth, sorted by name."""
    return [Sample(name, UNLABELLED) for name in files_below(folder, is_image)]


def files_below(folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Return the files below a folder, at any depth, whose names are wanted, sorted; hidden folders are left out."""
    return sorted(_names_below(folder, wanted))


def _names_below(
    folder: Path, wanted: Callable[[str], bool], prefix: str = "", above: frozenset[str] = frozenset()
) -> Iterator[str]:
    real = os.path.realpath(folder)
    if real in above:  # a link back to a folder that it is in
        return
    for entry in entries(folder):
        if entry.is_dir() and not entry.name.startswith("."):
            yield from _names_below(folder / entry.name, wanted, f"{prefix}{entry.name}/", above | {real})
        elif wanted(entry.name):
            yield prefix + entry.name
