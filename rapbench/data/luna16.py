"""LUNA16 [setio2017validation]: cubes around candidates for lung nodules in CT, nodules and others (CC BY 4.0)."""

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import check_installed
from rapbench.core.paths import user_path
from rapbench.data import datasets
from rapbench.data.ct.cubes import CubeDataset, checked_window
from rapbench.data.ct.folds import Part, Scheme, part_of
from rapbench.data.ct.luna_cubes import LunaCubes, Masks
from rapbench.data.ct.luna_tables import CANDIDATES


@datasets.register("luna16")
def luna16(
    *,
    root: str | None = None,
    candidates: str = CANDIDATES,
    fold: int = 0,
    folds: int = 10,
    scheme: Scheme = "random",
    part: Part = "test",
    share: float | None = 0.28,
    seed: int = 0,
    spacing: float | None = None,
    masks: Masks = "sphere",
    window: list[float] | None = None,
) -> CubeDataset:
    """Return cubes of 32 voxels a side around LUNA16's candidates, on 0..1.

    They are cut once and kept in the cache. Raises RapbenchError for a root without tables or scans, broken rows and
    files, and for a fold, share or spacing out of range.
    """
    check_installed("luna16", "data=luna16")
    if not root:
        raise RapbenchError("the luna16 data set needs data.root, LUNA16's folder (make: LUNA16=/path)")
    place = user_path(root, "data.root").resolve()
    if not place.is_dir():
        raise RapbenchError(f"LUNA16: {place} is not a folder")
    if spacing is not None and not 0.2 <= spacing <= 10:
        raise RapbenchError(f"data.spacing={spacing} must be 0.2 to 10 mm, or null for the voxels as they are stored")
    cubes = LunaCubes(place, candidates, spacing, masks, checked_window(window))
    return part_of("luna16", cubes, part, share, fold, folds, scheme, seed)
