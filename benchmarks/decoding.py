"""What decoding adds to a model that sees each image once, and what each container adds to decoding, in one run.

Usage: python benchmarks/decoding.py [MODEL], on the embedded images, repeated. Ratios only.
"""

import io
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from _measure import passes, real_batch

from rapbench.data.decoding.decode import decode_ahead, in_batches, stacked
from rapbench.data.folder import folder
from rapbench.data.imagenet import imagenet
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.samples import samples
from rapbench.data.subset.predictions import BATCH, draw_order

COUNT = 256
STORED = 4000

Images = list[tuple[str, bytes]]


def main() -> None:
    """Print the ratios as tables."""
    model, batch, _ = real_batch(BATCH)
    source = samples()
    wanted = list(islice(cycle(source.samples), COUNT))

    @torch.inference_mode()
    def alone() -> None:
        for _ in range(COUNT // BATCH):
            model(batch)

    @torch.inference_mode()
    def draw(workers: int | None) -> None:
        with closing(decode_ahead(source, wanted, model.transform, 2 * BATCH, workers)) as images:
            for found in in_batches(images, BATCH):
                model(stacked(found).contiguous(memory_format=torch.channels_last))

    print(f"{model.facts.name}, {COUNT} images once; time, in passes of the model over the same images")
    for title, workers in (("decoded in the model's process", 0), ("decoded ahead, in others", None)):
        print(f"  {title:32s} {passes(lambda w=workers: draw(w), alone, 3):6.2f}")  # type: ignore[misc]

    print(f"\n{COUNT} images drawn of {STORED:,}, decoded in one process; time, against files in a folder")
    data = [source.read(sample.file) for sample in source.samples]
    images = [(f"{number:05d}.jpg", data[number % len(data)]) for number in range(STORED)]
    with tempfile.TemporaryDirectory() as temporary:
        plain = Path(temporary) / "plain"
        plain.mkdir()
        for name, content in images:
            (plain / name).write_bytes(content)

        def decode_all(dataset: Dataset) -> None:
            for _ in decode_ahead(dataset, draw_order(dataset.samples, 0)[:COUNT], model.transform, workers=0):
                pass

        files = folder(root=str(plain))
        for title, write in CONTAINERS.items():
            path = Path(temporary) / f"images.{title.split(',')[0]}"
            write(path, images)
            inside = imagenet(root=str(path), labels="predicted")
            print(f"  {title:32s} {passes(lambda d=inside: decode_all(d), lambda: decode_all(files), 3):6.2f}")  # type: ignore[misc]
            path.unlink()


def in_tar(path: Path, images: Images) -> None:
    """Write an archive as ImageNet's."""
    with tarfile.open(path, "w") as archive:
        for name, content in images:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def in_parquet(rows: int) -> Callable[[Path, Images], None]:
    """Return what writes a file as Hugging Face's, in row groups of so many images."""

    def write(path: Path, images: Images) -> None:
        structs = pa.array([{"bytes": content, "path": name} for name, content in images])
        pq.write_table(pa.table({"image": structs}), path, row_group_size=rows)

    return write


CONTAINERS = {
    "tar": in_tar,
    "parquet, row groups of 100": in_parquet(100),
    "parquet, row groups of 1000": in_parquet(1000),
}


if __name__ == "__main__":
    main()
