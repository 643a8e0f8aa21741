"""The right to compute something, held by one process at a time and given back by its death."""

import errno
from pathlib import Path

from filelock import FileLock, Timeout

from rapbench.files import cannot_write

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Claim:
    """A lock of the operating system on a file. A file that a dead process left behind is nobody's."""

    def __init__(self, lock: FileLock | None):
        self.lock = lock

    @classmethod
    def of(cls, path: Path) -> "Claim | None":
        """Return the claim, or None while another process has it; never waits. Raises RapbenchError when it cannot.

        On a disk without locks everybody has it: the same thing is then computed twice, to the same bytes.
        """
        lock = FileLock(path, timeout=0)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            return None
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise cannot_write(path, error) from error
            return cls(None)
        return cls(lock)

    def __enter__(self) -> "Claim":
        return self

    def __exit__(self, *_: object) -> None:
        if self.lock:
            self.lock.release()
