"""A file for a library that trusts the sizes it finds: no more than is sensible is read at once, or in all.

Archives state sizes, and a few bytes of a compressed one can stand for gigabytes. What asks for more raises TooLarge.
"""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

GZIP = b"\x1f\x8b"


class TooLarge(OSError):
    """A file that would take more memory or time than anything of its kind should."""


class Bounded(io.RawIOBase):
    """A seekable file, read-only. at_once: bytes of one read; in_all: how far it may be read, None for any distance."""

    def __init__(self, file: IO[bytes], at_once: int, in_all: int | None = None):
        self.file = file
        self.at_once = at_once
        self.in_all = in_all

    def read(self, size: int | None = -1) -> bytes:
        """Return that many bytes, fewer at the end, or all that are left. Raises TooLarge."""
        wanted = -1 if size is None else size
        if wanted > self.at_once:
            raise TooLarge(f"it wants {wanted:,} bytes read at once; more than {self.at_once:,} are not")
        data = self.file.read(wanted if wanted >= 0 else self.at_once + 1)
        if len(data) > self.at_once:
            raise TooLarge(f"it holds more than {self.at_once:,} bytes where fewer are expected")
        self._refuse_beyond(self.file.tell())
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place. Raises TooLarge for one that is too far into the file."""
        if whence == io.SEEK_SET:
            self._refuse_beyond(offset)  # before anything is decompressed to get there
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place."""
        return self.file.tell()

    def readable(self) -> bool:
        """Whether it can be read: always."""
        return True

    def seekable(self) -> bool:
        """Whether it can be moved in: always."""
        return True

    def _refuse_beyond(self, place: int) -> None:
        if self.in_all is not None and place > self.in_all:
            raise TooLarge(f"it unpacks to more than {self.in_all:,} bytes")


def tar_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield an archive's members, keeping none. Raises tarfile.ReadError for one of a negative size.

    Python's own iteration keeps them all, and runs in circles where a header leads backwards.
    """
    last = -1
    while member := archive.next():
        archive.members.clear()  # type: ignore[attr-defined]
        if archive.offset <= last or member.size < 0:
            raise tarfile.ReadError("a member has a negative size")
        last = archive.offset
        yield member


def small_members(path: Path, wanted: Callable[[str], bool], most: int, in_all: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of the regular files in a tar archive whose names are wanted.

    path: of the archive, which may be compressed by gzip; it is read in place. most: bytes of a file. in_all: bytes of
    the archive, unpacked. Raises TooLarge, and whatever damaged bytes lead to.
    """
    with (
        path.open("rb") as packed,
        _decompressed(packed) as file,
        tarfile.open(fileobj=Bounded(file, most, in_all), mode="r:") as archive,
    ):
        for member in tar_members(archive):
            name = member.name.removeprefix("./")
            if not wanted(name) or not member.isreg() or member.issparse():
                continue
            if member.size > most:
                raise TooLarge(f"its {name} has {member.size:,} bytes")
            data = archive.extractfile(member)
            yield name, data.read() if data else b""


def _decompressed(file: IO[bytes]) -> IO[bytes]:
    begin = file.read(len(GZIP))
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if begin == GZIP else file  # type: ignore[return-value]
