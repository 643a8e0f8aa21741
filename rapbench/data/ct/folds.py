"""Which candidates train, choose and test a network: folds by scan, and a share of nodules."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from rapbench.core.errors import RapbenchError
from rapbench.core.random import random_keys, seed_of
from rapbench.data.ct.cubes import CubeDataset, Cubes, as_dataset

if TYPE_CHECKING:
    from numpy.typing import NDArray

Scheme = Literal["random", "official"]
Part = Literal["train", "validation", "test", "all"]
SUBSETS = 10  # LUNA16's


@dataclass(frozen=True)
class Split:
    """Indices of candidates, sorted; no scan has some in two of the parts."""

    train: "NDArray[np.int64]"
    validation: "NDArray[np.int64]"
    test: "NDArray[np.int64]"


def split(cubes: Cubes, fold: int, folds: int = 10, scheme: Scheme = "random", seed: int = 0) -> Split:
    """Return a fold of a cross-validation by scan: one part tests, the next one validates, the others train.

    Parameters
    ----------
    cubes : Cubes
        The candidates.
    fold : int
        0 to folds - 1.
    folds : int
        How many parts there are. With ten, training, validation and test are 8:1:1.
    scheme : {"random", "official"}
        `random` deals the scans to the parts in an order drawn by the seed, those with nodules first, so that each part
        has its share of them. `official` takes LUNA16's ten subsets: fold N tests on subset N.
    seed : int
        Of the order.

    Raises
    ------
    RapbenchError
        For a fold that there is not, too few scans, or subsets that are not known.
    """
    part = _official(cubes, folds) if scheme == "official" else _dealt(cubes, folds, seed)
    if not 0 <= fold < folds:
        raise RapbenchError(f"fold={fold} is none of the {folds} folds, which are 0 to {folds - 1}")
    of = part[cubes.scan]
    test, validation = of == fold, of == (fold + 1) % folds
    found = Split(np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test))
    for name in ("train", "validation", "test"):
        if not len(getattr(found, name)):
            raise RapbenchError(f"fold {fold} of {cubes.name} has no candidates for {name}, of {len(cubes.scans):,} "
                                "scans in all; use more scans or fewer folds")  # fmt: skip
    return found


def balanced(cubes: Cubes, indices: "NDArray[np.int64]", share: float | None, seed: int = 0) -> "NDArray[np.int64]":
    """Return all nodules among some candidates, and so many of the others that nodules are a share of the whole.

    Parameters
    ----------
    cubes : Cubes
        The candidates.
    indices : (n,) int64
        Some of them.
    share : float, or None
        Of the nodules, above 0 and below 1. None: all candidates are returned, nodules at their natural ratio.
    seed : int
        Of the draw. A candidate that one fold draws is likely drawn by another, too.

    Returns
    -------
    (m,) int64
        Sorted. Fewer of the others than wanted where there are no more.

    Raises
    ------
    RapbenchError
        For a share that is none.
    """
    if share is None:
        return np.sort(indices)
    if not 0 < share < 1:
        raise RapbenchError(f"share={share} must be above 0 and below 1, or null for the natural ratio")
    nodule = cubes.label[indices] == 1
    nodules, others = indices[nodule], indices[~nodule]
    wanted = round(len(nodules) * (1 - share) / share)
    order = np.argsort(_keys(len(cubes.label), "candidates", seed)[others], kind="stable")
    return np.sort(np.concatenate([nodules, others[order[:wanted]]]))


def part_of(
    name: str, cubes: Cubes, part: Part, share: float | None, fold: int, folds: int, scheme: Scheme, seed: int
) -> CubeDataset:
    """Return a part of a fold as the data set `name`, nodules at the share; "all": every candidate."""
    if part == "all":
        return as_dataset(name, cubes, np.arange(len(cubes.label)), "all")
    indices = balanced(cubes, getattr(split(cubes, fold, folds, scheme, seed), part), share, seed)
    cubes.prepare(indices)
    return as_dataset(name, cubes, indices, f"{part}, {scheme} fold {fold} of {folds}")


def _official(cubes: Cubes, folds: int) -> "NDArray[np.integer]":
    if cubes.subset is None:
        raise RapbenchError(f"scheme=official needs LUNA16's folders or archives subset0 to subset9, and "
                            f"{cubes.name} has none; use scheme=random")  # fmt: skip
    if folds != SUBSETS:
        raise RapbenchError(f"scheme=official has {SUBSETS} folds, not {folds}; leave folds out")
    return cubes.subset


def _dealt(cubes: Cubes, folds: int, seed: int) -> "NDArray[np.integer]":
    """Return the part of each scan."""
    if folds < 3:
        raise RapbenchError(f"folds={folds}: at least 3 are needed, to train, to validate and to test")
    if len(cubes.scans) < folds:
        raise RapbenchError(f"{cubes.name} has {len(cubes.scans):,} scans, too few for {folds} folds; use fewer folds")
    nodules = np.bincount(cubes.scan, cubes.label, minlength=len(cubes.scans)) > 0
    order = np.lexsort((_keys(len(cubes.scans), "scans", seed), ~nodules))
    part = np.empty(len(order), dtype=np.int64)
    part[order] = np.arange(len(order)) % folds
    return part


def _keys(count: int, what: str, seed: int) -> "NDArray[np.int64]":
    """Return a random number for each of `count` things, the same for all devices and versions of libraries."""
    seeds = torch.tensor([seed_of("folds", what, seed)])
    return np.asarray(random_keys(seeds, count)[0].numpy())
