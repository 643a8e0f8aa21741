"""Phantoms of lung nodules, and of what is taken for one: real outlines and drawn shapes, in drawn lung.

They are no CT. A nodule's shape is a real one's, as readers outlined it; its density and all around it are drawn.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from rapbench.core.random import seed_of
from rapbench.data.ct.shapes import Grid, branching, direction, passing, tube, wall

if TYPE_CHECKING:
    from numpy.typing import NDArray

Kind = Literal["nodule", "vessel", "pleura", "noise"]
LUNG = -850.0  # HU, of the parenchyma on average over scans
TISSUE = 40.0  # HU, of solid nodules, vessels and the chest wall on average
LOWEST, HIGHEST = -1024, 3071  # HU that a scanner's 12 bits hold
# HU of a nodule on average and its standard deviation, by the readers' rating of its texture [armato2011lidc].
DENSITY = {1: (-560.0, 50.0), 2: (-420.0, 80.0), 3: (-250.0, 100.0), 4: (-50.0, 60.0), 5: (TISSUE, 25.0)}
OTHERS: tuple[Kind, ...] = ("vessel", "pleura", "noise")
SHARES = (0.5, 0.3, 0.2)  # of the others


@dataclass(frozen=True)
class Look:
    """How a scan looks. lung: HU of the parenchyma. noise: its standard deviation in HU. Blurs: in voxels, z, y, x."""

    lung: float
    noise: float
    grain: tuple[float, float, float]
    blur: tuple[float, float, float]


def look_of(seed: int, uid: str) -> Look:
    """Return how a scan's phantoms look: the same for all of one scan."""
    rng = generator(seed, "scan", uid)
    grain, blur = rng.uniform(0.5, 1.0), rng.uniform(0.5, 0.8)
    return Look(
        lung=float(LUNG + 25 * rng.standard_normal()),
        noise=float(rng.uniform(15, 45)),
        grain=(float(rng.uniform(0.2, 0.6)), float(grain), float(grain)),
        blur=(float(rng.uniform(0.3, 0.6)), float(blur), float(blur)),
    )


def generator(*parts: object) -> np.random.Generator:
    """Return random numbers that hang on the parts' text alone."""
    return np.random.Generator(np.random.PCG64(seed_of("nodule phantoms", *parts) % 2**64))


def nodule(
    rng: np.random.Generator, look: Look, grid: Grid, inside: "NDArray[np.bool_]", texture: float
) -> "tuple[NDArray[np.int16], NDArray[np.bool_]]":
    """Return a nodule's cube in HU, and where it is.

    inside: in its box, voxels of the grid's spacing. texture: the readers' rating, 1 to 5. Some nodules lie at the
    chest wall, some at a vessel, and vessels pass by.
    """
    start = [(grid.side - side) // 2 + int(rng.integers(-1, 2)) for side in inside.shape]
    mask = np.zeros(grid.shape, dtype=bool)
    mask[tuple(slice(first, first + side) for first, side in zip(start, inside.shape, strict=True))] = inside
    radius = float((3 * inside.sum() * np.prod(grid.spacing) / (4 * np.pi)) ** (1 / 3))
    hu = _lung(rng, look, grid)
    vessels = _around(rng, grid, radius + 3)
    middle = np.zeros(3)
    if rng.uniform() < 0.35:
        tube(grid, rng, middle, direction(rng), rng.uniform(0.3, 0.6) * min(radius, 5), vessels)
    _fill(hu, vessels, _tissue(rng))
    if rng.uniform() < 0.35:
        normal, ridge = direction(rng, 0.4), rng.uniform(0, 2)
        reach = (np.argwhere(mask) - grid.side // 2) * grid.spacing @ normal
        away = np.quantile(reach, rng.uniform(0.8, 1)) + ridge  # nearly all of the nodule stands in the lung
        _fill(hu, wall(grid, rng, normal, float(away), ridge), _tissue(rng))
    mean, deviation = DENSITY[int(np.clip(np.floor(texture), 1, 5))]
    density = mean + deviation * rng.standard_normal()
    hu[mask] = np.maximum(hu, density + _smooth(rng, grid, 1.5, 20))[mask]  # what is denser shows through
    return scanned(rng, look, hu), mask


def other(rng: np.random.Generator, look: Look, grid: Grid, kind: Kind) -> "NDArray[np.int16]":
    """Return the cube of what is no nodule, in HU: vessels that branch, cross or bend, pleura, or noise alone."""
    hu = _lung(rng, look, grid)
    middle = rng.uniform(-1.5, 1.5, 3)
    vessels = _around(rng, grid, 6)
    if kind == "vessel":
        _vessels(rng, grid, middle, vessels)
    elif kind == "noise":
        hu += _smooth(rng, grid, rng.uniform(1.5, 3), rng.uniform(30, 120))
    _fill(hu, vessels, _tissue(rng))
    if kind == "pleura":
        ridge = rng.uniform(1, 5)
        _fill(hu, wall(grid, rng, direction(rng, 0.4), ridge + rng.uniform(-2, 2), ridge), _tissue(rng))
    return scanned(rng, look, hu)


def _vessels(rng: np.random.Generator, grid: Grid, middle: "NDArray[np.float64]", into: "NDArray[np.float64]") -> None:
    """Add what passes for a nodule in a slice: a vessel that branches, two that cross, or one that bends sharply."""
    radius = float(np.clip(np.exp(rng.normal(0.7, 0.4)), 0.8, 5))
    drawn = rng.uniform()
    if drawn < 0.5:
        branching(grid, rng, middle, radius, into)
    elif drawn < 0.75:
        passing(grid, rng, middle, radius, into)
        passing(grid, rng, middle + rng.uniform(-1, 1, 3), radius * rng.uniform(0.5, 1), into)
    else:
        passing(grid, rng, middle, radius, into, bend=0.4)


def _around(rng: np.random.Generator, grid: Grid, away: float) -> "NDArray[np.float64]":
    """Return the coverage of vessels that pass by at least so many mm from the middle, up to three."""
    into = np.zeros(grid.shape)
    for _ in range(int(rng.integers(0, 4))):
        radius = rng.uniform(0.4, 1.5)
        aside = direction(rng)
        along = np.cross(aside, direction(rng))
        at = aside * (away + radius + rng.uniform(0, 8))
        passing(grid, rng, at, radius, into, along, bend=0.05)
    return into


def _lung(rng: np.random.Generator, look: Look, grid: Grid) -> "NDArray[np.float64]":
    return look.lung + _smooth(rng, grid, 3, 20)


def _smooth(rng: np.random.Generator, grid: Grid, blur: float, deviation: float) -> "NDArray[np.float64]":
    """Return numbers that change slowly from voxel to voxel, around 0. blur: in voxels."""
    found = gaussian_filter(rng.standard_normal(grid.shape), blur, mode="wrap", truncate=3)
    return np.asarray(found * (deviation / found.std()))


def _tissue(rng: np.random.Generator) -> float:
    return float(TISSUE + 25 * rng.standard_normal())


def _fill(hu: "NDArray[np.float64]", covered: "NDArray[np.float64]", density: float) -> None:
    hu += covered * (density - hu)


def scanned(rng: np.random.Generator, look: Look, hu: "NDArray[np.float64]") -> "NDArray[np.int16]":
    """Return what a scanner makes of densities: blurred, so that edges share voxels, with noise, in whole HU."""
    blurred = gaussian_filter(hu, look.blur, mode="nearest", truncate=4)
    grain = gaussian_filter(rng.standard_normal(hu.shape), look.grain, mode="wrap", truncate=3)
    blurred += grain * (look.noise / grain.std())
    return np.asarray(np.clip(np.rint(blurred), LOWEST, HIGHEST), dtype=np.int16)
