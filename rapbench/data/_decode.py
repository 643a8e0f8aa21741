"""Image files to network inputs, decoded ahead of the model in processes; broken ones are named and left out."""

import hashlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, replace
from types import FrameType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from rapbench.data._dataset import Dataset, Sample
from rapbench.data._picture import BrokenImage, picture
from rapbench.errors import RapbenchError
from rapbench.say import say

BROKEN_LIMIT = 0.01
MOST_WORKERS = 8
FORK_PAYS = 16  # images: about as many are decoded while one more process is forked,
SPAWN_PAYS = 256  # or started anew, with all imports

_running = 0  # streams that have processes now


@dataclass(frozen=True)
class Decoded:
    """One image as the network takes it, (3, H, W), or the reason why it could not be decoded."""

    sample: Sample
    sha256: str
    pixels: Tensor | None
    error: str = ""


def decode(dataset: Dataset, sample: Sample, transform: Callable[[Image.Image], Tensor]) -> Decoded:
    """Read, hash, decode and preprocess one image; a broken one comes back with its error."""
    try:
        data = dataset.read(sample.file)
    except OSError as error:
        return Decoded(sample, "", None, str(error) or type(error).__name__)
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Decoded(sample, digest, transform(picture(data, dataset.upright)))
    except BrokenImage as error:
        return Decoded(sample, digest, None, str(error))


def decode_ahead(
    dataset: Dataset,
    samples: Iterable[Sample],
    transform: Callable[[Image.Image], Tensor],
    ahead: int = 32,
    workers: int | None = None,
) -> Generator[Decoded]:
    """Yield the samples decoded, in their order, at most `ahead` of them waiting.

    workers: processes that decode; 0: this one; None: one a core, up to 8, as far as the images pay for their start.
    Closing the generator ends them. Raises RapbenchError when one of them dies.
    """
    wanted = list(samples)
    count = _workers(len(wanted), transform) if workers is None else min(workers, len(wanted))
    if count == 0:
        for sample in wanted:
            yield decode(dataset, sample, transform)
    else:
        yield from _from_processes(_Job(dataset, transform), wanted, min(count, ahead), ahead)


class _Job(torch.utils.data.Dataset[tuple[Decoded, np.ndarray | None]]):
    """What a process needs to decode a sample. Pixels travel as an array through a pipe: /dev/shm is often small."""

    def __init__(self, dataset: Dataset, transform: Callable[[Image.Image], Tensor]):
        self.dataset = dataset
        self.transform = transform

    def __getitem__(self, sample: Sample) -> tuple[Decoded, np.ndarray | None]:
        image = decode(self.dataset, sample, self.transform)
        return replace(image, pixels=None), None if image.pixels is None else image.pixels.numpy()


def _from_processes(job: _Job, wanted: list[Sample], workers: int, ahead: int) -> Generator[Decoded]:
    global _running
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of more processes than cores
        loader = DataLoader(
            job, batch_size=None, sampler=wanted, num_workers=workers, prefetch_factor=max(1, ahead // workers),
            collate_fn=_as_it_is, worker_init_fn=_begin, multiprocessing_context=_start_method(),
            generator=torch.Generator(),  # the global one must not move
        )  # fmt: skip
        stream: Any = iter(loader)
    _running += 1
    try:
        _word_deaths()
        done = 0
        try:
            for image, pixels in stream:
                done += 1
                yield image if pixels is None else replace(image, pixels=torch.from_numpy(pixels))
        except RuntimeError as error:
            if not _is_death(error):
                raise
            if any(worker.exitcode not in (None, 0, -signal.SIGTERM) for worker in stream._workers):
                raise _died() from None
        # A cluster that takes a job back ends its processes; this one decides itself when to go.
        for sample in wanted[done:]:
            yield decode(job.dataset, sample, job.transform)
    finally:
        _running -= 1
        stream._shutdown_workers()  # at once, even while a traceback still holds the iterator


def _workers(images: int, transform: Callable[[Image.Image], Tensor]) -> int:
    if multiprocessing.current_process().daemon:  # which may have no children
        return 0
    forks = _start_method() == "fork"
    if not forks:
        try:
            pickle.dumps(transform)
        except Exception:  # whatever a user's own transform raises
            return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_WORKERS, cores, images // (FORK_PAYS if forks else SPAWN_PAYS))


def _start_method() -> str:
    """Return how processes start: as the program chose, else by forking on Linux, which takes no new imports."""
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen or ("fork" if sys.platform == "linux" else multiprocessing.get_start_method())


def _as_it_is(image: Any) -> Any:
    return image


def _begin(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the main process, which ends the others
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if main := multiprocessing.parent_process():
        threading.Thread(target=_end_with, args=(main.pid,), daemon=True).start()


def _end_with(parent: int) -> None:
    """End this process soon after the one that it decodes for: it may wait for ever to hand an image over."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _word_deaths() -> None:
    """Have torch's error for a worker's death, raised between any two lines, come as this project's."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return
    torchs: Any = signal.getsignal(signal.SIGCHLD)
    if not callable(torchs) or getattr(torchs, "worded", False):
        return

    def handler(number: int, frame: FrameType | None) -> None:
        try:
            torchs(number, frame)
        except RuntimeError as error:
            if not (_running and _is_death(error)):
                raise
            if str(signal.strsignal(signal.SIGTERM)) not in str(error):
                raise _died() from None

    handler.worded = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handler)


def _is_death(error: RuntimeError) -> bool:
    return str(error).startswith("DataLoader worker (pid")


def _died() -> RapbenchError:
    return RapbenchError("a process that decodes images died, as happens when memory runs out; free some and run again")


def in_batches(stream: Iterable[Decoded], size: int) -> Iterator[list[Decoded]]:
    """Yield the images in lists of `size`, the last one shorter."""
    batch: list[Decoded] = []
    for image in stream:
        batch.append(image)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def leave_out_broken(images: list[Decoded], broken: list[str]) -> list[Decoded]:
    """Return the images that could be decoded; the others are named on the terminal and added to `broken`."""
    for image in images:
        if image.pixels is None:
            leave_out(image.sample.file, image.error, broken)
    return [image for image in images if image.pixels is not None]


def leave_out(file: str, reason: str, broken: list[str]) -> None:
    """Name a broken image on the terminal and add it to `broken`."""
    broken.append(file)
    say(f"left out: {file} cannot be decoded ({reason})")


def refuse_broken(broken: list[str], looked_at: int, dataset: Dataset) -> None:
    """Raise RapbenchError when more than 1 % of the images looked at could not be decoded."""
    if len(broken) > BROKEN_LIMIT * looked_at:
        names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
        raise RapbenchError(
            f"{len(broken)} of {looked_at} images in {dataset.root} cannot be decoded ({names}); more than "
            f"{BROKEN_LIMIT:.0%} is an error: mend or remove them"
        )


def stacked(images: Iterable[Decoded]) -> Tensor:
    """Return the pixels of images that could be decoded, (N, 3, H, W)."""
    return torch.stack([image.pixels for image in images if image.pixels is not None])
