"""Image files to network inputs, decoded ahead of the model in processes; broken ones are named and skipped."""

import hashlib
import multiprocessing
import os
import pickle
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import NOT_THE_FILES
from rapbench.data.decoding.picture import BrokenImage, picture
from rapbench.data.decoding.workers import in_order
from rapbench.data.labelled.dataset import Dataset, Sample

BROKEN_LIMIT = 0.01
MOST_WORKERS = 8
FORK_PAYS = 16  # images: about as many are decoded while one more process is forked,
SPAWN_PAYS = 256  # or started anew, with all imports


@dataclass(frozen=True)
class Decoded:
    """One input as the network takes it, (C, *space), or the reason why it could not be decoded."""

    sample: Sample
    sha256: str
    pixels: Tensor | None
    error: str = ""


def decode(dataset: Dataset, sample: Sample, transform: Callable[[Image.Image], Tensor]) -> Decoded:
    """Read, hash, decode and preprocess one image; a broken one comes back with its error."""
    if (tensor := dataset.tensor(sample.file)) is not None:
        return Decoded(sample, dataset.sha256(sample.file), tensor)
    try:
        data = dataset.read(sample.file)
    except OSError as error:
        if error.errno in NOT_THE_FILES:
            raise
        return Decoded(sample, "", None, str(error) or type(error).__name__)
    digest = hashlib.sha256(data).hexdigest()
    try:
        return Decoded(sample, digest, transform(picture(data, dataset.upright)))
    except BrokenImage as error:
        if isinstance(error.__cause__, MemoryError):  # which says nothing of the image either
            raise MemoryError(str(error)) from error
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
    Closing the generator ends them. One that is ended from outside is done without; RapbenchError names an image that
    they die of.
    """
    wanted = list(samples)
    if dataset.shape is not None:  # nothing to decode
        workers = 0
    count = _workers(len(wanted), transform) if workers is None else min(workers, len(wanted))
    if count == 0:
        for sample in wanted:
            yield decode(dataset, sample, transform)
    else:
        job, workers = _Job(dataset, transform, wanted), min(count, ahead)
        stream = in_order(job, len(wanted), workers, ahead, _start_method(), lambda number: wanted[number].file)
        with closing(stream) as decoded:
            for image, pixels in decoded:
                yield image if pixels is None else replace(image, pixels=torch.from_numpy(pixels))


class _Job:
    """Decodes samples by their number. Pixels travel as an array through a pipe: /dev/shm is often small."""

    def __init__(self, dataset: Dataset, transform: Callable[[Image.Image], Tensor], samples: list[Sample]):
        self.dataset, self.transform, self.samples = dataset, transform, samples

    def __call__(self, number: int) -> tuple[Decoded, np.ndarray | None]:
        image = decode(self.dataset, self.samples[number], self.transform)
        return replace(image, pixels=None), None if image.pixels is None else image.pixels.numpy()


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
    say(f"skipped: {file} cannot be decoded ({reason})")


def refuse_broken(broken: list[str], looked_at: int, dataset: Dataset) -> None:
    """Raise RapbenchError when more than 1 % of the images looked at could not be decoded."""
    if len(broken) > BROKEN_LIMIT * looked_at:
        names = ", ".join(broken[:3]) + (", ..." if len(broken) > 3 else "")
        raise RapbenchError(
            f"{len(broken)} of {looked_at} images in {dataset.where} cannot be decoded ({names}); more than "
            f"{BROKEN_LIMIT:.0%} is an error: mend or remove them"
        )


def stacked(images: Iterable[Decoded]) -> Tensor:
    """Return the pixels of images that could be decoded, (N, C, *space). Raises RapbenchError for unequal shapes."""
    good = [(image.sample.file, image.pixels) for image in images if image.pixels is not None]
    for file, pixels in good:
        if pixels.shape != good[0][1].shape:
            raise RapbenchError(
                f"preprocessed, {file} has shape {tuple(pixels.shape)}, {good[0][0]} {tuple(good[0][1].shape)}; "
                "a transform must make inputs of one size"
            )
    return torch.stack([pixels for _, pixels in good])
