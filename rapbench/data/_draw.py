"""The correct-prediction subset: the first images of a seeded draw that one or several models classify correctly.

What a model says of the images, in the order of the draw, is kept batch by batch, broken images too: another run, a
larger n, a second model or a stopped draw begin with what is known.
"""

import hashlib
import json
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from rapbench.data._dataset import Dataset, Sample
from rapbench.data._decode import decode_ahead, in_batches, leave_out, refuse_broken
from rapbench.data._manifest import Row, Subset
from rapbench.data._verdicts import BATCH, Verdict, draw_order, judge
from rapbench.errors import RapbenchError
from rapbench.store.cell import digest_of
from rapbench.store.sealed import DRAWS, Damaged, read_sealed, sealed_in, set_aside, write_sealed
from rapbench.zoo._model import ZooModel


@dataclass(frozen=True)
class Draws:
    """Where verdicts are kept. key: of a model, of its code and of the machine, what determines them."""

    store: Path
    key: Callable[[ZooModel], dict[str, Any]]


def select(
    models: list[ZooModel],
    dataset: Dataset,
    n: int,
    seed: int,
    device: torch.device,
    draws: Draws | None = None,
) -> Subset:
    """Return the first n images of the draw that every model classifies as their label (top-1, in float32).

    The rows carry the first model's logits. An image without a label gets the first model's prediction as its label.
    draws: where verdicts are kept, if anywhere. Raises RapbenchError when no image is left, or when more than 1 % of
    those looked at cannot be decoded.
    """
    first, others = models[0], models[1:]
    also = " ".join(f"{model.facts.name}@{model.weights_sha256}" for model in others)
    rows: list[Row] = []
    broken: list[str] = []
    looked_at = 0
    with ExitStack() as stack:
        bar = stack.enter_context(
            tqdm(total=min(n, len(dataset.samples)), desc=f"{first.facts.name} · subset", unit="image")
        )
        streams = [stack.enter_context(closing(_verdicts(m, dataset, seed, device, draws))) for m in models]
        for batches in zip(*streams, strict=True):
            for verdict, *rest in zip(*batches, strict=True):
                looked_at += 1
                if verdict.error:
                    leave_out(verdict.file, verdict.error, broken)
                elif verdict.correct and all(v.correct and v.predicted == verdict.predicted for v in rest):
                    rows.append(Row(verdict.file, verdict.predicted, verdict.sha256, verdict.logit, first.facts.name,
                                    first.weights_sha256, also))  # fmt: skip
            bar.update(min(len(rows), n) - bar.n)
            if len(rows) >= n:
                break
    refuse_broken(broken, looked_at, dataset)
    if not rows:
        names = " and ".join(model.facts.name for model in models)
        verb = "agree on" if others else "classifies"
        raise RapbenchError(
            f"{names} {verb} none of the {looked_at} images in {dataset.root} correctly; are the labels, the layout "
            "and the weights right?"
        )
    return Subset(rows[:n], looked_at, tuple(broken))


def _verdicts(
    model: ZooModel,
    dataset: Dataset,
    seed: int,
    device: torch.device,
    draws: Draws | None,
) -> Generator[list[Verdict]]:
    """Yield a model's verdicts batch by batch: those that are kept and still true of the files, then new ones."""
    order = draw_order(dataset.samples, seed)
    batches = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    key = draws.key(model) | {"data": dataset.identity, "seed": seed, "batch": BATCH} if draws else {}
    store = draws.store if draws else None
    folder = store / DRAWS / digest_of(key) if store else None
    kept = dict(sealed_in(folder)) if folder else {}
    known = 0
    while known < len(batches) and (verdicts := _kept(kept.get(_name(known)), store, batches[known], dataset)):
        yield verdicts
        known += 1
    with closing(decode_ahead(dataset, order[known * BATCH :], model.transform, ahead=2 * BATCH)) as images:
        for number, batch in enumerate(in_batches(images, BATCH), start=known):
            verdicts = judge(model, batch, device)
            if folder:
                text = json.dumps({"key": key, "verdicts": [astuple(verdict) for verdict in verdicts]})
                write_sealed(folder, _name(number), "json", text.encode())
            yield verdicts


def _kept(path: Path | None, store: Path | None, samples: list[Sample], dataset: Dataset) -> list[Verdict] | None:
    """Return the verdicts of a batch, unless they are not there or an image has changed since."""
    if path is None or store is None:
        return None
    try:
        verdicts = [Verdict(*values) for values in json.loads(read_sealed(path))["verdicts"]]
    except Damaged as reason:
        set_aside(path, store, reason)
        return None
    same = [(verdict.file, verdict.label, verdict.sha256) for verdict in verdicts] == [
        (sample.file, sample.label, _hash(dataset, sample.file)) for sample in samples
    ]
    return verdicts if same else None


def _hash(dataset: Dataset, file: str) -> str:
    try:
        return hashlib.sha256(dataset.read(file)).hexdigest()
    except OSError:
        return ""


def _name(number: int) -> str:
    return f"{number:05d}"
