"""Files that carry the hash of their bytes in their names, NAME-HASH.SUFFIX: what is damaged or foreign shows."""

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import NOT_THE_FILES, open_regular, write_whole

SET_ASIDE = "set-aside"
SWEEPS = "sweeps"  # no sealed files: what the jobs of sweeps that run now note
SEALED = re.compile(r"(?P<name>.+)-(?P<hash>[0-9a-f]{16})\.(?P<suffix>parquet|safetensors|json)")


class Damaged(Exception):
    """A file's bytes are not those that its name promises, or not what its place in the store asks for."""


def write_sealed(folder: Path, name: str, suffix: str, data: bytes) -> Path:
    """Write a file whole and return its path. Raises RapbenchError when it cannot be written."""
    path = folder / f"{name}-{_hash(data)}.{suffix}"
    write_whole(path, data)
    return path


def sealed_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the names and paths of the sealed files in a folder, sorted; nothing when there is no folder."""
    try:
        found = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in found:
        if match := SEALED.fullmatch(entry):
            yield match["name"], folder / entry


def chunks_in(folder: Path, store: Path, count: int | None = None) -> Iterator[tuple[int, Path]]:
    """Yield the numbers and paths of the chunks in a folder; a name that is none of `count` chunks' is set aside."""
    for name, path in sealed_in(folder):
        if is_chunk_name(name) and (count is None or int(name) < count):
            yield int(name), path
        else:
            set_aside(path, store, Damaged(f"{name!r} is the name of no chunk here"))


def chunk_name(chunk: int) -> str:
    """Return what a chunk's file is called, before the hash."""
    return f"{chunk:05d}"


def is_chunk_name(name: str) -> bool:
    """Whether a name is one that `chunk_name` returns."""
    return bool(re.fullmatch("[0-9]{5,9}", name)) and name == chunk_name(int(name))


def read_sealed(path: Path) -> bytes:
    """Return a file's bytes; Damaged when they are not those that were written, FileNotFoundError without a file."""
    match = SEALED.fullmatch(path.name)
    try:
        with open_regular(path) as file:
            data = file.read()
    except FileNotFoundError as error:
        if path.is_symlink():
            raise Damaged("it is a link to nowhere") from error
        raise
    except OSError as error:
        if error.errno == errno.ESTALE:  # removed on another machine
            raise FileNotFoundError(path) from error
        if error.errno in (*NOT_THE_FILES, errno.EACCES, errno.EPERM):
            raise RapbenchError(f"{path} cannot be read: {error.strerror}") from error
        raise Damaged(f"it cannot be read ({error.strerror})") from error
    if match is None or _hash(data) != match["hash"]:
        raise Damaged("its checksum is wrong")
    return data


def set_aside(path: Path, store: Path, reason: Damaged) -> None:
    """Move a damaged file out of the way, and say so. Raises RapbenchError when the store cannot be changed."""
    place = store / SET_ASIDE / path.name
    number = 1
    while os.path.lexists(place):
        number += 1
        place = place.with_name(f"{path.name}.{number}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    except FileNotFoundError:  # another process was faster
        return
    except OSError as error:
        raise RapbenchError(f"{path} is damaged ({reason}) and cannot be moved away: {error.strerror}") from error
    say(f"{path} is damaged: {reason}; moved to {place}, computed again")


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
