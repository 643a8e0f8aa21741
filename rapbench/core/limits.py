"""What a process ran out of, told from its error: memory, open files, threads."""

import errno
import re
from collections.abc import Iterator

try:
    import resource  # now: later there may be no file left to open it
except ImportError:
    resource = None  # type: ignore[assignment]

# Of torch and its libraries, which have no class of their own for it. oneDNN says the last of a primitive that it has
# no memory for; of a "primitive descriptor" it says so where it has no such operation.
MEMORY = re.compile(
    r"(can't|cannot|unable to|failed to|could not) allocate|out of memory|not enough memory|bad[ _]alloc|alloc_failed"
    r"|failed to map segment|could not create a memory|could not (create|execute) a primitive(?! desc)",
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
    errors = list(_with_causes(error))
    if out_of_memory(error):
        return f"memory runs out ({_line(errors, MEMORY)}); free some, or run smaller: chunk=, batch=, subset.n="
    if any(_says(one, FILES, errno.EMFILE, errno.ENFILE) for one in errors) or (
        isinstance(error, ImportError) and _most_files() < FEW_FILES
    ):
        return f"too many open files: {_most_files()} are allowed; allow more, as with ulimit -n 1024"
    if any(_says(one, THREADS) for one in errors):
        return f"no more threads or processes can start ({_line(errors, THREADS)}); allow more, as with ulimit -u 4096"
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
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] if resource else FEW_FILES


def _line(errors: list[BaseException], saying: re.Pattern[str]) -> str:
    """Return the line that says so, of what may be a page of advice."""
    lines = [line.strip() for error in errors for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if saying.search(line)), lines[0] if lines else type(errors[0]).__name__)
