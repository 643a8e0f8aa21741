"""The data set of `small_cubes`, for those who name it: data=tests.balls:balls. Importing it registers it."""

from rapbench.data import datasets
from rapbench.data.ct.cubes import CubeDataset
from rapbench.data.ct.folds import Part, part_of
from tests.small_cubes import Balls


@datasets.register("balls")
def balls(
    *, count: int = 96, fold: int = 0, folds: int = 4, part: Part = "test", share: float | None = 0.28, seed: int = 0
) -> CubeDataset:
    """Return a part of a fold."""
    return part_of("balls", Balls(count, seed), part, share, fold, folds, "random", seed)
