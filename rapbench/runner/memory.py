"""Out of memory: the same job in smaller chunks."""

import gc
from collections.abc import Callable

import torch

from rapbench.errors import RapbenchError
from rapbench.runner.allocator import release_memory
from rapbench.runner.job import Job, Size
from rapbench.say import say

SAYINGS = ("can't allocate memory", "cannot allocate memory", "out of memory", "bad allocation", "std::bad_alloc")


def compute(job_of: Callable[[Size], Job], size: Size) -> tuple[Job, dict[str, str]]:
    """Compute a job, halving its chunks while memory runs out; return it, and why for each method it could not use.

    The chunk is a part of a result's identity, so smaller chunks are other cells, begun anew: equal on every machine.
    Raises RapbenchError when memory does not even suffice for one image.
    """
    asked = size
    while True:
        job = job_of(size)
        try:
            refused = job.compute()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            reason = str(error).strip().split("\n")[0]
        else:
            if size != asked:
                say(f"Everything was computed with chunk={size.chunk} batch={size.batch}; ask for these next time.")
            return job, refused
        if size == Size(1, 1):
            raise RapbenchError(f"memory runs out even with one image at a time ({reason})")
        if size == asked:
            say(f"Out of memory with chunk={size.chunk} batch={size.batch}; going on with smaller ones.")
        size = Size(max(1, size.chunk // 2), max(1, size.batch // 2))
        gc.collect()
        release_memory()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that the device's or the machine's memory ran out."""
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(saying in str(error).lower() for saying in SAYINGS)
