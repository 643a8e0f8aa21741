"""Phantoms of lung nodules: real outlines (LIDC-IDRI [armato2011lidc], CC BY 3.0) in drawn lung; no CT."""

from rapbench.core.extras import check_installed
from rapbench.data import datasets
from rapbench.data.ct.cubes import CubeDataset, checked_window
from rapbench.data.ct.folds import Part, part_of
from rapbench.data.ct.phantom_cubes import PhantomCubes


@datasets.register("nodule_phantoms")
def nodule_phantoms(
    *,
    fold: int = 0,
    folds: int = 10,
    part: Part = "test",
    share: float | None = 0.28,
    seed: int = 0,
    count: int = 2400,
    window: list[float] | None = None,
) -> CubeDataset:
    """Return phantoms of nodules and of what is taken for one, 32 voxels a side, on 0..1.

    They are drawn once and kept in the cache. Raises RapbenchError for a fold, share or count out of range.
    """
    check_installed("luna16", "data=nodule_phantoms")
    cubes = PhantomCubes(count, seed, checked_window(window))
    return part_of("nodule_phantoms", cubes, part, share, fold, folds, "random", seed)
