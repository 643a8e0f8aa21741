"""Shapes for phantoms: how much of each voxel a tube or a wall covers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEP = 2.0  # mm, of a tube's pieces
BEND = 0.12  # how far a tube turns at each, as the tangent's standard deviation
MURRAY = 2 ** (-1 / 3)  # a branch's radius over its parent's


@dataclass(frozen=True)
class Grid:
    """A cube of voxels around the origin. spacing: in mm, in z, y, x. The middle is the voxel side // 2."""

    side: int
    spacing: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of voxels in z, y, x."""
        return (self.side,) * 3

    def axes(self) -> "list[NDArray[np.float64]]":
        """Return where the voxels are in mm along z, y and x, shaped to be broadcast."""
        places = np.arange(self.side, dtype=np.float64) - self.side // 2
        shapes = ((-1, 1, 1), (1, -1, 1), (1, 1, -1))
        return [np.asarray(places * step).reshape(shape) for shape, step in zip(shapes, self.spacing, strict=True)]

    def holds(self, point: "NDArray[np.float64]") -> bool:
        """Whether a point in mm is within the cube."""
        return bool((np.abs(point) <= self.side / 2 * np.array(self.spacing)).all())

    def covered(self, distance: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """Return how much of a voxel is covered by what begins at a signed distance in mm, 0..1."""
        return np.clip(0.5 - distance / self.spacing[2], 0, 1)


def direction(rng: np.random.Generator, flat: float = 1.0) -> "NDArray[np.float64]":
    """Return a random unit vector; flat: below 1, more of them lie in the plane of a slice."""
    return unit(rng.standard_normal(3) * (flat, 1, 1))


def unit(vector: "NDArray[np.float64]") -> "NDArray[np.float64]":
    """Return a vector of length 1 along another."""
    return np.asarray(vector / np.sqrt((vector**2).sum()))


def tube(
    grid: Grid, rng: np.random.Generator, start: "NDArray[np.float64]", along: "NDArray[np.float64]", radius: float,
    into: "NDArray[np.float64]", bend: float = BEND,
) -> None:  # fmt: skip
    """Add a tube to a coverage, from a point in mm until it leaves the cube, turning a little at each step."""
    here = start
    for _ in range(200):
        along = unit(along + bend * rng.standard_normal(3))
        there = here + STEP * along
        _capsule(grid, here, there, radius, into)
        if not grid.holds(there):
            return
        here = there


def branching(
    grid: Grid, rng: np.random.Generator, at: "NDArray[np.float64]", radius: float, into: "NDArray[np.float64]"
) -> None:
    """Add a tube that comes to a point and parts there in two, whose radii keep r^3 [murray1926physiological]."""
    along = direction(rng)
    tube(grid, rng, at, -along, radius, into)
    side = unit(np.cross(along, direction(rng)))
    for sign in (1, -1):
        turn = np.deg2rad(rng.uniform(20, 50))
        tube(grid, rng, at, np.cos(turn) * along + sign * np.sin(turn) * side, MURRAY * radius, into)


def passing(
    grid: Grid, rng: np.random.Generator, at: "NDArray[np.float64]", radius: float, into: "NDArray[np.float64]",
    along: "NDArray[np.float64] | None" = None, bend: float = BEND,
) -> None:  # fmt: skip
    """Add a tube through a point."""
    along = direction(rng) if along is None else along
    for sign in (1, -1):
        tube(grid, rng, at, sign * along, radius, into, bend)


def wall(grid: Grid, rng: np.random.Generator, normal: "NDArray[np.float64]", away: float, ridge: float) -> (
        "NDArray[np.float64]"):  # fmt: skip
    """Return the coverage of all that is beyond a curved surface. away: mm from the origin. ridge: its height in mm.

    The surface bends by a radius of 40 mm or more. The ridge runs along it, where it is nearest to the origin.
    """
    first = unit(np.cross(normal, direction(rng)))
    second = np.cross(normal, first)
    z, y, x = grid.axes()
    depth, across, on = ((v[0] * z + v[1] * y + v[2] * x) for v in (normal, first, second))
    curve = rng.uniform(-1, 1, 2) / 80
    width, length = rng.uniform(2, 5), rng.uniform(12, 30)
    bump = ridge * np.exp(-((across / width) ** 2 + (on / length) ** 2) / 2)
    return grid.covered(away + curve[0] * across**2 + curve[1] * on**2 - bump - depth)


def _capsule(
    grid: Grid, a: "NDArray[np.float64]", b: "NDArray[np.float64]", radius: float, into: "NDArray[np.float64]"
) -> None:
    """Add what is within a radius of the line from a to b, in mm."""
    spacing, reach = np.array(grid.spacing), radius + grid.spacing[2]
    low = np.floor((np.minimum(a, b) - reach) / spacing).astype(int) + grid.side // 2
    high = np.ceil((np.maximum(a, b) + reach) / spacing).astype(int) + grid.side // 2 + 1
    low, high = np.clip(low, 0, grid.side), np.clip(high, 0, grid.side)
    if (low >= high).any():
        return
    box = tuple(slice(first, last) for first, last in zip(low, high, strict=True))
    points = [axis[tuple(cut if n > 1 else slice(None) for cut, n in zip(box, axis.shape, strict=True))] - start
              for axis, start in zip(grid.axes(), a, strict=True)]  # fmt: skip
    line = b - a
    share = np.clip(sum(p * step for p, step in zip(points, line, strict=True)) / (line**2).sum(), 0, 1)
    distance = np.sqrt(sum((p - share * step) ** 2 for p, step in zip(points, line, strict=True)))
    into[box] = np.maximum(into[box], grid.covered(distance - radius))
