"""Out of memory: the same work in smaller parts."""

import gc
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import torch

from rapbench.core.allocator import release_memory
from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.evaluation.description import reasons
from rapbench.evaluation.fill_cells import fill_cells
from rapbench.evaluation.job import Job, Size

Part = TypeVar("Part")
Result = TypeVar("Result")


def compute(job_of: Callable[[Size], Job], size: Size) -> tuple[Job, dict[str, str]]:
    """Compute a job, halving its chunks while memory runs out; return it, and why for each method it could not use.

    The chunk is a part of a result's identity, so smaller chunks are other cells, begun anew: equal on every machine.
    Raises RapbenchError when no method can be used, or memory does not even suffice for one image.
    """

    def attempt(size: Size) -> tuple[Job, dict[str, str]]:
        job = job_of(size)
        return job, job.absent.reasons | fill_cells(job)

    job, refused = with_less(attempt, _smaller(size), f"with chunk={size.chunk} batch={size.batch}")
    if job.size != size:
        say(f"Everything was computed with chunk={job.size.chunk} batch={job.size.batch}; ask for these next time.")
    if refused.keys() >= job.methods.keys():
        raise RapbenchError(reasons(refused))
    return job, refused


def with_less(attempt: Callable[[Part], Result], sizes: Iterable[Part], what: str) -> Result:
    """Return what an attempt returns at the first of some falling sizes for which memory suffices.

    what: is done at the first size, for the line that says once that it is done at smaller ones. Raises RapbenchError
    when memory does not suffice for the last, one image.
    """
    reason = ""
    for size in sizes:
        if reason:
            gc.collect()
            release_memory()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
        try:
            return attempt(size)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if not reason:
                say(f"Out of memory {what}; going on with smaller ones.")
            reason = str(error).strip().split("\n")[0] or type(error).__name__
    raise RapbenchError(f"memory runs out even with one image at a time ({reason})")


def halves(size: int) -> Iterator[int]:
    """Yield a size, its half, and so on to 1."""
    while size > 1:
        yield size
        size //= 2
    yield 1


def _smaller(size: Size) -> Iterator[Size]:
    yield size
    while size != Size(1, 1):
        size = Size(max(1, size.chunk // 2), max(1, size.batch // 2))
        yield size
