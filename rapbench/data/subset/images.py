"""A subset's images as the network takes them, decoded ahead of the model over a whole run."""

from collections.abc import Generator
from contextlib import closing

from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.data.decoding.decode import Decoded, decode_ahead, stacked
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.subset.manifest import Subset
from rapbench.model.preprocessing import Transform


def load_images(subset: Subset, dataset: Dataset, transform: Transform, chunks: list[slice]) -> Generator[Tensor]:
    """Yield the preprocessed inputs of each chunk of the subset's rows, (N, C, *space) float32.

    Raises RapbenchError that names a file which is missing, changed, or not decodable.
    """
    wanted = [row for chunk in chunks for row in subset.rows[chunk]]
    with closing(decode_ahead(dataset, [Sample(row.file, row.label) for row in wanted], transform)) as images:
        for chunk in chunks:
            decoded: list[Decoded] = []
            for row, image in zip(subset.rows[chunk], images, strict=False):
                where = f"{row.file} in {dataset.where}"
                if not image.sha256:
                    raise RapbenchError(f"{where}, named by the manifest, cannot be read ({image.error})")
                if image.sha256 != row.sha256:
                    raise RapbenchError(f"{where} has changed since the manifest was written (its SHA-256)")
                if image.pixels is None:
                    raise RapbenchError(f"{where} cannot be decoded ({image.error})")
                decoded.append(image)
            yield stacked(decoded)
