"""Files written whole or not at all, and their hashes."""

import errno
import hashlib
import os
import tempfile
from pathlib import Path

from rapbench.errors import RapbenchError

HINTS = {
    errno.ENOSPC: "free some space and run again; what is finished is kept",
    errno.EDQUOT: "free some of the quota and run again; what is finished is kept",
    errno.EROFS: "name another place (a run's is results=FOLDER)",
    errno.EACCES: "name another place (a run's is results=FOLDER)",
}


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under a temporary name beside it and rename it into place; a killed run leaves no half file.

    Raises RapbenchError when it cannot be written.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise cannot_write(path, error) from error
        raise


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


def file_hash(path: Path, algorithm: str = "sha256") -> str:
    """Return the hash of a file's bytes, as hexadecimal digits; OSError when it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
