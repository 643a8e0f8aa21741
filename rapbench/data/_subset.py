"""The correct-prediction subset: a seeded draw of images that the evaluated model classifies as their label."""

import csv
import hashlib
import io
import random
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from tqdm import tqdm

from rapbench.data._dataset import Dataset, Sample
from rapbench.data._decode import Decoded, decode_ahead, in_batches, leave_out_broken, refuse_broken, stacked
from rapbench.errors import RapbenchError
from rapbench.files import write_whole
from rapbench.zoo._model import ZooModel


@dataclass(frozen=True)
class Row:
    """A manifest's line: an image, its identity, and the logit of its label under the model that chose it."""

    file: str
    label: int
    sha256: str
    logit: float
    model: str
    weights_sha256: str


@dataclass(frozen=True)
class Subset:
    """The images of a run, in the order of the draw. drawn: images looked at. broken: those left out."""

    rows: list[Row]
    drawn: int | None = None
    broken: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """SHA-256 over every image's content and label, in order."""
        return hashlib.sha256("\n".join(f"{row.sha256} {row.label}" for row in self.rows).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the manifest as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        writer.writerows([getattr(row, field.name) for field in fields(Row)] for row in self.rows)
        write_whole(path, text.getvalue().encode())


def load_manifest(path: Path) -> Subset:
    """Read a manifest; RapbenchError names the line that is not understood."""
    if not path.is_file():
        raise RapbenchError(f"subset.manifest: {path} is not a file")
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                row = Row(line["file"], int(line["label"]), line["sha256"], float(line["logit"]), line["model"],
                          line["weights_sha256"])  # fmt: skip
            except (KeyError, TypeError, ValueError) as error:
                raise RapbenchError(f"{path}, line {number}: not a manifest line ({error!r})") from None
            rows.append(row)
    if not rows:
        raise RapbenchError(f"{path} names no images")
    return Subset(rows)


def unchanged(subset: Subset, dataset: Dataset) -> bool:
    """Whether every image of the subset is still there with the same bytes."""
    try:
        return all(hashlib.sha256(dataset.read(row.file)).hexdigest() == row.sha256 for row in subset.rows)
    except OSError:
        return False


def draw_order(samples: list[Sample], seed: int) -> list[Sample]:
    """Return the samples in the order of the draw: a seeded shuffle over the sorted file names."""
    drawn = sorted(samples, key=lambda sample: sample.file)
    random.Random(seed).shuffle(drawn)
    return drawn


@torch.inference_mode()
def select(model: ZooModel, dataset: Dataset, n: int, seed: int, device: torch.device, batch: int = 16) -> Subset:
    """Return the first n images of the draw that `model` classifies as their label (top-1, in float32).

    Raises RapbenchError when none is, or when more than 1 % of the images looked at cannot be decoded.
    """
    rows: list[Row] = []
    broken: list[str] = []
    looked_at = 0
    stream = decode_ahead(dataset, draw_order(dataset.samples, seed), model.transform, ahead=2 * batch)
    with tqdm(total=min(n, len(dataset.samples)), desc=f"{model.facts.name} · subset", unit="image") as bar:
        for images in in_batches(stream, batch):
            looked_at += len(images)
            if good := leave_out_broken(images, broken):
                rows += _correct(model, good, device)
                bar.update(min(len(rows), n) - bar.n)
            if len(rows) >= n:
                break
    refuse_broken(broken, looked_at, dataset)
    if not rows:
        raise RapbenchError(
            f"{model.facts.name} classifies none of the {looked_at} images in {dataset.root} correctly; are the "
            "labels, the layout and the weights right?"
        )
    return Subset(rows[:n], looked_at, tuple(broken))


def _correct(model: ZooModel, images: list[Decoded], device: torch.device) -> list[Row]:
    logits = model(stacked(images).to(device, memory_format=torch.channels_last)).cpu()
    for image in images:
        if image.sample.label >= logits.shape[1]:
            raise RapbenchError(
                f"{image.sample.file} has label {image.sample.label}, but {model.facts.name} has "
                f"{logits.shape[1]} classes"
            )
    return [
        Row(image.sample.file, image.sample.label, image.sha256, float(scores[image.sample.label]),
            model.facts.name, model.weights_sha256)
        for image, scores in zip(images, logits, strict=True)
        if int(scores.argmax()) == image.sample.label
    ]  # fmt: skip


def load_images(subset: Subset, dataset: Dataset, model: ZooModel, rows: slice) -> torch.Tensor:
    """Return the preprocessed images of some of the subset's rows, (N, 3, H, W) float32.

    Raises RapbenchError that names a file which is missing, changed, or not decodable.
    """
    wanted = subset.rows[rows]
    pixels = []
    images = decode_ahead(dataset, [Sample(row.file, row.label) for row in wanted], model.transform)
    for row, image in zip(wanted, images, strict=True):
        if not image.sha256:
            raise RapbenchError(f"{dataset.root / row.file}, named by the manifest, cannot be read ({image.error})")
        if image.sha256 != row.sha256:
            raise RapbenchError(f"{dataset.root / row.file} has changed since the manifest was written (its SHA-256)")
        if image.pixels is None:
            raise RapbenchError(f"{dataset.root / row.file} cannot be decoded ({image.error})")
        pixels.append(image.pixels)
    return torch.stack(pixels)
