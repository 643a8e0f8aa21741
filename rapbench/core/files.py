"""Files written whole or not at all, read without waiting, and their hashes."""

import errno
import hashlib
import io
import os
import re
import stat
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from rapbench.core.errors import RapbenchError

try:
    import fcntl
except ImportError:  # not everywhere; there nothing is locked
    fcntl = None  # type: ignore[assignment]

HINTS = {
    errno.ENOSPC: "free some space and run again; what is finished is kept",
    errno.EDQUOT: "free some of the quota and run again; what is finished is kept",
    errno.EROFS: "name another place (a run's is results=FOLDER)",
    errno.EACCES: "name another place (a run's is results=FOLDER)",
}
# That a file cannot be read now says nothing of the file.
NOT_THE_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
HELD = (errno.EAGAIN, errno.EWOULDBLOCK)
# As write_whole makes them: a dot, the file's name, a dot, mkstemp's eight characters.
TEMPORARY = re.compile(r"\..+\.(csv|html|json|md|npy|parquet|pdf|png|pt|safetensors|tex|yaml)\.[a-z0-9_]{8}")
ABANDONED_AFTER = 3600.0  # seconds, where the disk has no locks


# What making a file below a folder, or the folder, raises where another process removes the folder meanwhile.
GONE = (FileNotFoundError, FileExistsError)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it and rename it into place; a killed run leaves no half file.

    Raises RapbenchError when it cannot be written.
    """
    tries = 3
    while True:
        tries -= 1
        try:
            _write(path, data)
            return
        except GONE as error:  # another process has just removed the folder, or a leftover of this name
            if not tries:
                raise cannot_write(path, error) from error
        except OSError as error:
            raise cannot_write(path, error) from error


def write_in_place_of(folder: Path, files: Mapping[str, str | bytes], earlier: Iterable[Path]) -> None:
    """Write files into a folder, each whole or not at all; then remove the earlier ones that are not among them."""
    for name, content in files.items():
        write_whole(folder / name, content.encode() if isinstance(content, str) else content)
    for path in earlier:
        if path.name not in files:
            path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            with suppress(OSError):
                lock(handle)  # while it is written, so that nobody takes it for a leftover
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
    except BaseException:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what killed processes began to write in a folder; what is being written now stays."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if TEMPORARY.fullmatch(entry.name) and entry.is_file(follow_symlinks=False):
                path = Path(entry.path)
                with suppress(OSError):
                    if abandoned(path):
                        path.unlink()


def abandoned(path: Path) -> bool:
    """Whether no process is writing a temporary file; on a disk without locks, whether it is an hour old."""
    handle = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        return lock(handle)
    except OSError:
        return time.time() - os.fstat(handle).st_mtime > ABANDONED_AFTER
    finally:
        os.close(handle)


def lock(handle: int) -> bool:
    """Lock an open file until it is closed, without waiting; False while another process has it.

    Raises OSError where the disk, or the system, has no locks.
    """
    if fcntl is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        raise
    return True


def cannot_write(path: Path | str, error: OSError) -> RapbenchError:
    """Return the line for a file that the system refuses to write."""
    hint = HINTS.get(error.errno or 0)
    return RapbenchError(f"cannot write {path}: {error.strerror or error}" + (f"; {hint}" if hint else ""))


def system_says(error: OSError) -> RapbenchError:
    """Return the line for what the system refuses, wherever that happens."""
    if error.errno in HINTS:
        return cannot_write(error.filename or "a file", error)
    place = f"{error.filename}: " if error.filename else ""
    return RapbenchError(f"{place}{error.strerror or error or type(error).__name__}")


def open_regular(path: Path | str) -> io.BufferedReader:
    """Open a file to read its bytes. Raises OSError for a pipe or a device too, which would be waited for."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    mode = os.fstat(handle).st_mode
    if stat.S_ISREG(mode):
        return os.fdopen(handle, "rb")
    os.close(handle)
    number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
    raise OSError(number, os.strerror(number) if stat.S_ISDIR(mode) else "not a regular file", str(path))


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's bytes, as hexadecimal digits; OSError when it cannot be read."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
