"""Image files to network inputs, decoded ahead of the model in threads."""

import hashlib
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from rapbench.data._dataset import Dataset, Sample


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
) -> Iterator[Decoded]:
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
