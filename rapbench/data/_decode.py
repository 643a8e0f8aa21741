"""Image files to network inputs, decoded ahead of the model in threads; broken ones are named and left out."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from rapbench.data._dataset import Dataset, Sample
from rapbench.errors import RapbenchError

BROKEN_LIMIT = 0.01


@dataclass(frozen=True)
class Decoded:
    """One image as the network takes it, (3, H, W), or the reason why it could not be decoded."""

    sample: Sample
    sha256: str
    pixels: Tensor | None
    error: str = ""


def decode(dataset: Dataset, sample: Sample, transform: Callable[[Image.Image], Tensor]) -> Decoded:
    """Read, hash, decode and preprocess one image; a broken one comes back with its error."""
    digest = ""
    try:
        data = dataset.read(sample.file)
        digest = hashlib.sha256(data).hexdigest()
        with Image.open(io.BytesIO(data)) as image:
            return Decoded(sample, digest, transform(image.convert("RGB")))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        return Decoded(sample, digest, None, str(error) or type(error).__name__)


def decode_ahead(
    dataset: Dataset, samples: Iterable[Sample], transform: Callable[[Image.Image], Tensor], ahead: int = 32
) -> Generator[Decoded]:
    """Yield the samples decoded, in their order, at most `ahead` of them waiting."""
    waiting: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor() as pool:
        try:
            for sample in samples:
                waiting.append(pool.submit(decode, dataset, sample, transform))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


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
            broken.append(image.sample.file)
            tqdm.write(f"left out: {image.sample.file} cannot be decoded ({image.error})")
    return [image for image in images if image.pixels is not None]


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
