"""The correct-prediction subset: the first images of a seeded draw that one or several models classify correctly.

What a model says of the images, in the order of the draw, is kept batch by batch, broken images too: another run, a
larger n, a second model or a stopped draw begin with what is known.
"""

from collections import defaultdict
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
from rapbench.model import Model
from rapbench.store.contents import DRAWS, check_place, digest_of, draw_bytes, draw_label
from rapbench.store.sealed import Damaged, chunk_name, chunks_in, read_sealed, set_aside, write_sealed


@dataclass(frozen=True)
class Draws:
    """Where verdicts are kept. key: of a model, of its code and of the machine, what determines them."""

    store: Path
    key: Callable[[Model], dict[str, Any]]


def select(
    models: list[Model],
    dataset: Dataset,
    n: int,
    seed: int,
    device: torch.device,
    draws: Draws | None = None,
    batch: int | None = None,
) -> Subset:
    """Return the first n images of the draw that every model classifies as their label (top-1, in float32).

    The rows carry the first model's logits. An image without a label gets the first model's prediction as its label.
    draws: where verdicts are kept, if anywhere. batch: images in one pass; None: BATCH. Raises RapbenchError when no
    image is left, or when more than 1 % of those looked at cannot be decoded.
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
        streams = [
            stack.enter_context(closing(_verdicts(m, dataset, seed, device, draws, batch or BATCH))) for m in models
        ]
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
            f"{names} {verb} none of the {looked_at} images in {dataset.where} correctly; are the labels, the layout "
            "and the weights right?"
        )
    return Subset(rows[:n], looked_at, tuple(broken))


def _verdicts(
    model: Model, dataset: Dataset, seed: int, device: torch.device, draws: Draws | None, size: int
) -> Generator[list[Verdict]]:
    """Yield a model's verdicts batch by batch: those that are kept and still true of the files, then new ones."""
    order = draw_order(dataset.samples, seed)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    key = draws.key(model) | {"data": dataset.identity, "seed": seed, "batch": size} if draws else {}
    store = draws.store if draws else None
    folder = store / DRAWS / digest_of(key) if store else None
    kept: dict[int, list[Path]] = defaultdict(list)  # of a batch several, where images have changed
    for number, path in chunks_in(folder, store, len(batches)) if folder and store else ():
        kept[number].append(path)
    known = 0
    while known < len(batches) and (verdicts := _kept(kept[known], store, known, batches[known], dataset)):
        yield verdicts
        known += 1
    with closing(decode_ahead(dataset, order[known * size :], model.transform, ahead=2 * size)) as images:
        for number, batch in enumerate(in_batches(images, size), start=known):
            verdicts = judge(model, batch, device)
            if folder:
                held = draw_bytes(key, number, [astuple(verdict) for verdict in verdicts])
                write_sealed(folder, chunk_name(number), "json", held)
            yield verdicts


def _kept(
    paths: list[Path], store: Path | None, number: int, samples: list[Sample], dataset: Dataset
) -> list[Verdict] | None:
    """Return the verdicts of a batch, unless they are not there or an image has changed since."""
    wanted = [(sample.file, sample.label) for sample in samples]
    for path in paths:
        assert store
        try:
            label = draw_label(read_sealed(path))
            check_place(label, path.parent.name, number)
            verdicts = [Verdict(*values) for values in label["verdicts"]]
            if [(verdict.file, verdict.label) for verdict in verdicts] != wanted:
                raise Damaged("it is of other images")
        except FileNotFoundError:
            continue
        except Damaged as reason:
            set_aside(path, store, reason)
            continue
        if all(verdict.sha256 == _hash(dataset, verdict.file) for verdict in verdicts):
            return verdicts
    return None


def _hash(dataset: Dataset, file: str) -> str:
    try:
        return dataset.sha256(file)
    except OSError:
        return ""
