"""Patterns of a zoo model from a folder of images: what `rapbench patterns` does."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from rapbench.core.device import default_batch, device_called
from rapbench.core.errors import RapbenchError
from rapbench.core.paths import user_path
from rapbench.data import load_data
from rapbench.data.decoding.decode import decode_ahead, in_batches, leave_out_broken, refuse_broken, stacked
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.subset.predictions import draw_order
from rapbench.model import Model
from rapbench.patterns.estimator import estimate
from rapbench.patterns.file import default_path, save
from rapbench.zoo import load_model


def make(
    model_name: str,
    *,
    options: dict[str, Any] | None = None,
    images: str | None = None,
    n: int | None = None,
    seed: int = 0,
    device: str = "auto",
    batch: int | None = None,
    output: str | None = None,
) -> str:
    """Estimate and write a zoo model's patterns; return the text to show.

    options: the model's. images: a folder, searched at any depth; None: the embedded samples. n: how many, drawn with
    `seed`; None: all. output: the file; None: where the methods look. Raises RapbenchError for anything that the user
    can mend.
    """
    if (n is not None and n < 1) or (batch is not None and batch < 1):
        raise RapbenchError("--n and --batch must be at least 1")
    place = device_called(device)
    dataset = load_data("samples") if images is None else load_data("folder", root=images)
    model = load_model(model_name, **options or {}).to(place)
    path = default_path(model.weights_sha256) if output is None else user_path(output, "--output")
    _refuse_unwritable(path)
    wanted = min(n or len(dataset.samples), len(dataset.samples))
    order = draw_order(dataset.samples, seed)
    patterns, hashes = estimated(model, dataset, order, wanted, batch or default_batch(place), place)
    save(patterns, model, path, hashes)
    units = sum(len(pattern) for pattern in patterns.values())
    silent = sum(int((pattern.flatten(1) == 0).all(1).sum()) for pattern in patterns.values())
    named = f" method.pattern_attribution.patterns={path}" if output else ""
    chosen = "".join(f" model.{key}={value}" for key, value in (options or {}).items())
    return (
        f"Patterns of {len(patterns)} layers from {len(hashes)} images of {dataset.description}. {silent} of {units} "
        f"units were never active there, or never varied; theirs are 0.\nWritten to {path}\n"
        f"Use them: rapbench run model={model_name}{chosen} method=[pattern_attribution]{named}"
    )


def estimated(
    model: Model, dataset: Dataset, order: Sequence[Sample], wanted: int, batch: int, place: torch.device
) -> tuple[dict[str, Tensor], list[str]]:
    """Return a model's patterns, estimated with a progress bar, and the SHA-256 of each image that they are from.

    order: samples; the first `wanted` that can be decoded count. place: where the model is.
    """
    hashes: list[str] = []

    def batches() -> Iterator[Tensor]:
        broken: list[str] = []
        stream = decode_ahead(dataset, order, model.transform, ahead=2 * batch)
        with tqdm(total=wanted, desc=f"{model.facts.name} · patterns", unit="image") as bar:
            for decoded in in_batches(stream, batch):
                good = leave_out_broken(decoded, broken)[: wanted - len(hashes)]
                if good:
                    yield stacked(good).to(place)
                hashes.extend(image.sha256 for image in good)
                bar.update(len(good))
                if len(hashes) == wanted:
                    break
        refuse_broken(broken, len(hashes) + len(broken), dataset)

    return estimate(model, batches()), hashes


def _refuse_unwritable(path: Path) -> None:
    """Raise RapbenchError now rather than after the whole estimation."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RapbenchError(f"cannot make the folder of {path}: {error}") from error
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise RapbenchError(f"cannot write {path}: " + ("it is a folder" if path.is_dir() else "no permission"))
