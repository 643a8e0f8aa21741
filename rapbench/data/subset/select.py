"""The correct-prediction subset: the first images of a seeded draw that one or several models classify correctly.

What a model says of the images, in the order of the draw, is kept batch by batch, broken images too: another run, a
larger n, a second model or a stopped draw begin with what is known.
"""

from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Protocol

import torch
from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.data.decoding.decode import decode_ahead, in_batches, leave_out, refuse_broken
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.subset.manifest import Row, Subset
from rapbench.data.subset.predictions import BATCH, Verdict, draw_order, judge
from rapbench.model import Model


class Known(Protocol):
    """What a model is known to say of a data set's images, batch by batch in the order of a draw."""

    def read(self, number: int, samples: list[Sample], dataset: Dataset) -> list[Verdict] | None:
        """Return the verdicts on a batch's images; None unless they are known and still true of the files."""

    def write(self, number: int, verdicts: list[Verdict]) -> None:
        """Keep the verdicts on a batch."""


@dataclass(frozen=True)
class Order:
    """An order in which images are judged. data: the identity of the data set. size: of a batch. count: of batches."""

    data: str
    seed: int
    size: int
    count: int


KnownOf = Callable[[Model, Order], Known]


def select(
    models: list[Model],
    dataset: Dataset,
    n: int,
    seed: int,
    device: torch.device,
    known: KnownOf | None = None,
    batch: int | None = None,
) -> Subset:
    """Return the first n images of the draw that every model classifies as their label (top-1, in float32).

    The rows carry the first model's logits. An image without a label gets the first model's prediction as its label.
    known: where a model's verdicts in an order are kept, if anywhere. batch: images in one pass; None: BATCH. Raises
    RapbenchError when no image is left, or when more than 1 % of those looked at cannot be decoded.
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
            stack.enter_context(closing(_verdicts(m, dataset, seed, device, known, batch or BATCH))) for m in models
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
    model: Model, dataset: Dataset, seed: int, device: torch.device, known_of: KnownOf | None, size: int
) -> Generator[list[Verdict]]:
    """Yield a model's verdicts batch by batch: those that are kept and still true of the files, then new ones."""
    order = draw_order(dataset.samples, seed)
    batches = [order[start : start + size] for start in range(0, len(order), size)]
    kept = known_of(model, Order(dataset.identity, seed, size, len(batches))) if known_of else None
    known = 0
    while kept and known < len(batches) and (verdicts := kept.read(known, batches[known], dataset)):
        yield verdicts
        known += 1
    with closing(decode_ahead(dataset, order[known * size :], model.transform, ahead=2 * size)) as images:
        for number, batch in enumerate(in_batches(images, size), start=known):
            verdicts = judge(model, batch, device)
            if kept:
                kept.write(number, verdicts)
            yield verdicts
