"""Whether a manifest still holds: the same files, the same labels, and models that classify every image as it says."""

from collections import defaultdict
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rapbench.app.values import options_of
from rapbench.core.console import say
from rapbench.core.device import device_called
from rapbench.core.errors import RapbenchError
from rapbench.core.memory_format import channels_last, placed
from rapbench.data import load_data
from rapbench.data.decoding.decode import decode_ahead, in_batches, stacked
from rapbench.data.labelled.dataset import UNLABELLED, Dataset, Sample
from rapbench.data.subset.manifest import Row, Subset, load_manifest
from rapbench.data.subset.predictions import BATCH
from rapbench.model import Model
from rapbench.registry import allow_modules, names_from
from rapbench.results.provenance import provenance_of
from rapbench.zoo import load_model

# Relative; another machine or batch moves a logit in its last bits, another decoder or weight far more.
TOLERANCE = 1e-3


class ManifestError(RapbenchError):
    """A manifest that does not hold."""

    code = 1


def verify(manifest: Path, *, root: str | None = None, device: str = "auto", allow_module: Sequence[str] = ()) -> str:
    """Check a manifest against its data set and its models; return the text to show.

    root: of the data set, where it is not what the provenance.json beside the manifest says. allow_module: modules of
    the user's own that the two files may name. Raises ManifestError when
    something is not as the manifest says, and RapbenchError when it cannot be checked.
    """
    allow_modules(allow_module)
    place = device_called(device)
    subset = load_manifest(manifest)
    first = subset.rows[0]
    judges = [(first.model, first.weights_sha256), *first.others]
    for number, row in enumerate(subset.rows, start=2):
        if [(row.model, row.weights_sha256), *row.others] != judges:
            raise RapbenchError(f"{manifest}, line {number}: chosen by other models than line 2; verify manifests of "
                                "one run each")  # fmt: skip
    config = provenance_of(manifest.parent).get("config", {})
    beside = manifest.parent / "provenance.json"
    _tell(config, root, beside)
    with names_from(beside):
        dataset = _dataset(config.get("data", {}), root)
    problems: dict[str, list[str]] = defaultdict(list)
    labels = {sample.file: sample.label for sample in dataset.samples}
    for row in subset.rows:
        if labels.get(row.file, row.label) not in (row.label, UNLABELLED):
            problems["have another label in the data set"].append(row.file)
    candidates = [config.get("model", {}), *config.get("subset", {}).get("require", [])]
    for name, weights in judges:
        model = _model(name, candidates, manifest, beside)
        if model.weights_sha256 != weights:
            raise ManifestError(f"{manifest} was drawn with other weights of {name} (SHA-256 {weights[:12]}..., here "
                                f"{model.weights_sha256[:12]}...)")  # fmt: skip
        _check(placed(model, place), subset, dataset, place, problems)
    if problems:
        found = [f"{len(files)} {what} ({', '.join(files[:3])}{', ...' if len(files) > 3 else ''})"
                 for what, files in problems.items()]  # fmt: skip
        raise ManifestError(f"{manifest} does not hold: of {len(subset.rows)} images, {'; '.join(found)}")
    names = " and ".join(name for name, _ in judges)
    return (
        f"{manifest} holds: {len(subset.rows)} images of {dataset.description}, bytes and labels unchanged, each "
        f"classified as its label by {names}; logits agree to {TOLERANCE:g} of their size."
    )


def _dataset(settings: dict[str, Any], root: str | None) -> Dataset:
    settings = {key: value for key, value in settings.items() if key != "boxes"}  # which no manifest depends on
    if root is None:
        return load_data(**({"name": settings["name"]} | options_of(settings) if settings else {"name": "samples"}))
    known = settings.get("name") not in (None, "samples")
    return load_data(**({"name": settings["name"]} | options_of(settings) if known else {"name": "imagenet"})
                     | {"root": root})  # fmt: skip


def _tell(config: dict[str, Any], root: str | None, beside: Path) -> None:
    """Say which files and folders are read because a provenance.json names them."""
    data = {} if root else {f"data.{key}": config.get("data", {}).get(key) for key in ("root", "labels_file", "masks")}
    named = {**data, "model.path": config.get("model", {}).get("path")}
    if paths := [f"{key}={path}" for key, path in named.items() if path]:
        say(f"{beside} names what is read: {', '.join(paths)}")


def _model(name: str, candidates: list[Any], manifest: Path, beside: Path) -> Model:
    """Return the model that a manifest names, with the options that its run gave it."""
    for settings in candidates:
        known = isinstance(settings, dict) and isinstance(settings.get("name"), str)
        own = known and ":" in settings["name"]  # which is called as its code says
        if known and (own or name in (settings["name"], Path(str(settings.get("path") or "")).stem)):
            with names_from(beside):
                model = load_model(settings["name"], **options_of(settings))
            if not own or name == model.facts.name:
                return model
    with names_from(manifest):
        return load_model(name)


@torch.inference_mode()
def _check(
    model: Model, subset: Subset, dataset: Dataset, device: torch.device, problems: dict[str, list[str]]
) -> None:
    rows = iter(subset.rows)
    samples = [Sample(row.file, row.label) for row in subset.rows]
    with (
        closing(decode_ahead(dataset, samples, model.transform)) as images,
        tqdm(total=len(samples), desc=f"{model.facts.name} · verify", unit="image") as bar,
    ):
        for batch in in_batches(images, BATCH):
            good: list[Row] = []
            for image, row in zip(batch, rows, strict=False):
                if not image.sha256:
                    problems["cannot be read"].append(row.file)
                elif image.sha256 != row.sha256:
                    problems["have changed (their SHA-256)"].append(row.file)
                elif image.pixels is None:
                    problems["cannot be decoded"].append(row.file)
                else:
                    good.append(row)
            wanted = {row.file for row in good}
            if good:
                pixels = stacked(image for image in batch if image.sample.file in wanted)
                logits = model(channels_last(pixels.to(device))).cpu()
                for row, scores in zip(good, logits, strict=True):
                    _compare(model, row, scores, problems)
            bar.update(len(batch))


def _compare(model: Model, row: Row, scores: torch.Tensor, problems: dict[str, list[str]]) -> None:
    if int(scores.argmax()) != row.label:
        problems[f"are classified otherwise by {model.facts.name}"].append(row.file)
    elif row.model == model.facts.name and abs(float(scores[row.label]) - row.logit) > TOLERANCE * abs(row.logit):
        problems[f"have another logit under {model.facts.name}"].append(row.file)
