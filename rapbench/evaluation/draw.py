"""The draw of a run's subset, with less memory where it does not suffice."""

import functools
from collections.abc import Sequence
from pathlib import Path

import torch

from rapbench.data.labelled.dataset import Dataset
from rapbench.data.subset.manifest import Subset
from rapbench.data.subset.predictions import BATCH
from rapbench.data.subset.select import select
from rapbench.evaluation.identity import draw_key
from rapbench.evaluation.memory import halves, with_less
from rapbench.model import Model
from rapbench.store.draws import Draws


def drawn(models: Sequence[Model], dataset: Dataset, n: int, seed: int, device: torch.device, store: Path) -> Subset:
    """Return n inputs that all of the models classify correctly, drawn by a seed; models' answers are kept in `store`.

    Raises RapbenchError as `select` does, and where memory does not suffice for one input.
    """
    draws = Draws(store, functools.partial(draw_key, device=device))
    return with_less(
        lambda batch: select(list(models), dataset, n, seed, device, draws, batch),
        halves(BATCH),
        f"with {BATCH} images in one pass, to choose the subset",
    )
