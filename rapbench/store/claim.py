"""The right to compute something, held by one process at a time and given back by its death."""

import os
from contextlib import suppress
from pathlib import Path

from rapbench.core.console import say
from rapbench.core.files import GONE, cannot_write, lock

TRIES = 100  # to open a file that others remove
_without_locks: set[int] = set()  # disks of which it has been said


class Claim:
    """A lock of the operating system on a file. A file that a dead process left behind is nobody's.

    handle: of the locked file; None on a disk without locks.
    """

    def __init__(self, path: Path, handle: int | None):
        self.path, self.handle = path, handle

    @classmethod
    def of(cls, path: Path) -> "Claim | None":
        """Return the claim, or None while another process has it; never waits. Raises RapbenchError when it cannot.

        On a disk without locks everybody has it: the same thing is then computed twice, to the same bytes.
        """
        try:
            for tries in reversed(range(TRIES)):
                try:
                    path.parent.mkdir(parents=True, exist_ok=True)
                    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
                except GONE:  # another process has just removed the folder
                    if not tries:
                        raise
                    continue
                locked = _locked(path, handle)
                if locked and _is(path, handle):
                    return cls(path, handle)
                os.close(handle)
                if not locked:
                    return cls(path, None) if locked is None else None
                # Locked, but by this name another file is there by now: `gc` removes those that nobody holds.
        except OSError as error:
            raise cannot_write(path, error) from error
        return None

    def remove(self) -> None:
        """Remove the file while it is held; who asks for the same claim later makes it anew."""
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        if self.handle is not None:
            os.close(self.handle)
            self.handle = None


def _locked(path: Path, handle: int) -> bool | None:
    """Return whether an open file could be locked; None, said once, where the disk has no locks."""
    try:
        return lock(handle)
    except OSError as error:
        disk = os.fstat(handle).st_dev
        if disk not in _without_locks:
            _without_locks.add(disk)
            say(f"{path} cannot be locked ({error.strerror}); processes that share the store may compute the same.")
        return None


def _is(path: Path, handle: int) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.stat(path), os.fstat(handle))
    return False
