"""What an epoch trains on: which candidates, in which order, all by (seed, epoch). Nothing of it is kept."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from rapbench.core.errors import RapbenchError
from rapbench.core.random import random_keys, seed_of

Indices = NDArray[np.int64]


class Item(NamedTuple):
    """candidate: its index. repeat: how many times it came before in this epoch."""

    candidate: int
    repeat: int


def epoch_items(
    indices: Indices, labels: NDArray[np.uint8], augmentations: int, share: float, seed: int, epoch: int
) -> list[Item]:
    """Return an epoch's items in their order: each nodule some times, and others drawn to the share.

    Parameters
    ----------
    indices : (n,) int64
        The candidates to train on.
    labels : (candidates,) uint8
        Of all candidates; 1: a nodule.
    augmentations : int
        How often a nodule comes.
    share : float
        Of the items that are nodules, above 0 and below 1. Others are drawn without replacement, and anew from all of
        them where there are too few.
    seed, epoch : int
        On which the draws and the order depend, and on nothing else.

    Raises
    ------
    RapbenchError
        Where there are no nodules, or nothing else.
    """
    nodule = labels[indices] == 1
    nodules, others = indices[nodule], indices[~nodule]
    if not len(nodules) or not len(others):
        missing = "other candidates" if len(nodules) else "nodules"
        raise RapbenchError(f"there are no {missing} to train on, among {len(indices):,} candidates")
    wanted = max(1, round(len(nodules) * augmentations * (1 - share) / share))
    items = [Item(int(index), repeat) for repeat in range(augmentations) for index in nodules]
    lap = 0
    while wanted:
        drawn = others[_order(len(others), "others", seed, epoch, lap)][:wanted]
        items += [Item(int(index), lap) for index in drawn]
        wanted -= len(drawn)
        lap += 1
    return [items[place] for place in _order(len(items), "order", seed, epoch)]


def item_seed(seed: int, epoch: int, item: Item) -> int:
    """Return the seed of an item's augmentation, below 2^32."""
    return seed_of("augmentation", seed, epoch, *item) % 2**32


def training_labels(
    labels: NDArray[np.uint8], parts: tuple[Indices, ...], shuffled: bool, seed: int
) -> NDArray[np.uint8]:
    """Return what is trained with: the labels, or with each part's permuted among its candidates."""
    if not shuffled:
        return labels
    found = labels.copy()
    for number, part in enumerate(parts):
        found[part] = labels[part][_order(len(part), "labels", seed, number)]
    return found


def _order(count: int, *parts: object) -> Indices:
    keys = random_keys(torch.tensor([seed_of("training", *parts)]), count)[0]
    return np.argsort(keys.numpy(), kind="stable")
