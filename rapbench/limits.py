"""What a process ran out of, told from its error: memory, open files, threads."""

import errno
import re
from collections.abc import Iterator

# Of torch and its libraries, which have no class of their own for it. oneDNN says the last of a primitive that it has
# no memory for; of a "primitive descriptor" it says so where it has no such operation.
MEMORY = re.compile(
    r"(can't|cannot|unable to|failed to|could not) allocate|out of memory|not enough memory|bad[ _]alloc|alloc_failed"
    r"|could not create a memory|could not (create|execute) a primitive(?! desc)",
    re.I,
)
FILES = re.compile(r"too many open files|errno[ =]24\b", re.I)
THREADS = re.compile(r"can't start new thread|resource temporarily unavailable", re.I)
FEW_FILES = 64  # below, Python does not find its own modules, and says that there are none


def out_of_memory(error: BaseException) -> bool:
    """Whether an error, or what it was raised from, says that the device's or the machine's memory ran out."""
    return any(isinstance(one, MemoryError) or _says(one, MEMORY, errno.ENOMEM) for one in _with_causes(error))


def ran_out(error: BaseException) -> str | None:
    """Return the line for an error that says what ran out, and what to do; None for any other."""
    if out_of_memory(error):
        return f"memory runs out ({_first_line(error)}); free some, or run smaller: chunk=, batch=, subset.n="
    errors = list(_with_causes(error))
    if any(_says(one, FILES, errno.EMFILE, errno.ENFILE) for one in errors) or (
        isinstance(error, ImportError) and _most_files() < FEW_FILES
    ):
        return f"too many open files: {_most_files()} are allowed; allow more, as with ulimit -n 1024"
    if any(_says(one, THREADS) for one in errors):
        return f"no more threads or processes can be started ({_first_line(error)}); allow more, as with ulimit -u 4096"
    return None


def _with_causes(error: BaseException | None) -> Iterator[BaseException]:
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _says(error: BaseException, saying: re.Pattern[str], *numbers: int) -> bool:
    if not isinstance(error, Exception):
        return False
    return (isinstance(error, OSError) and error.errno in numbers) or bool(saying.search(str(error)))


def _most_files() -> int:
    try:
        import resource
    except ImportError:
        return FEW_FILES
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
