"""Where things are in a scan: voxels and millimetres, cubes around a place, spheres and outlines within a cube."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rapbench.core.extras import needed
from rapbench.data.ct.cubes import AIR
from rapbench.data.ct.outlines import Outlined
from rapbench.data.ct.outlines import Scan as OutlinedScan

if TYPE_CHECKING:
    import SimpleITK
    from numpy.typing import NDArray

LEAST, MOST = -32768, 32767  # of int16


def resampled(image: "SimpleITK.Image", spacing: float) -> "SimpleITK.Image":
    """Return a scan with voxels of so many mm a side, interpolated linearly; the first voxel's centre stays."""
    with needed("luna16", "data=luna16"):
        import SimpleITK

    size = [max(1, round(n * step / spacing)) for n, step in zip(image.GetSize(), image.GetSpacing(), strict=True)]
    return SimpleITK.Resample(
        image, size, SimpleITK.Transform(), SimpleITK.sitkLinear, image.GetOrigin(), (spacing,) * 3,
        image.GetDirection(), AIR, SimpleITK.sitkFloat32,
    )  # fmt: skip


def centre(image: "SimpleITK.Image", world: "NDArray[np.float64]") -> "NDArray[np.int64]":
    """Return the voxel, z, y, x, in which a place is, x, y, z in mm; beyond the scan, too."""
    found = image.TransformPhysicalPointToContinuousIndex([float(value) for value in world])
    return np.floor(np.array(found[::-1]) + 0.5).astype(np.int64)


def cut(array: "NDArray[np.generic]", middle: "NDArray[np.int64]", side: int) -> "tuple[NDArray[np.int16], int]":
    """Return a cube of an array, and how many of its voxels are beyond the array, which are air.

    middle: the voxel z, y, x at place side // 2. Values are rounded to whole HU.
    """
    low = middle - side // 2
    inside = [slice(max(0, int(first)), max(0, int(first) + side)) for first in low]
    piece = np.asarray(array[tuple(inside)])
    found = np.full((side,) * 3, AIR, dtype=np.int16)
    to = tuple(
        slice(int(cut_.start - first), int(cut_.start - first) + n)
        for cut_, first, n in zip(inside, low, piece.shape, strict=True)
    )
    if piece.size:
        found[to] = np.clip(np.rint(piece), LEAST, MOST)
    return found, side**3 - piece.size


@dataclass(frozen=True)
class Voxels:
    """Where the voxels of a cube are. image: that it is cut from. middle: the voxel z, y, x at place side // 2."""

    image: "SimpleITK.Image"
    middle: "NDArray[np.int64]"
    side: int

    def world(self) -> "NDArray[np.float64]":
        """Return the centre of each voxel in mm, (side, side, side, 3), x, y, z last."""
        steps = np.arange(self.side) - self.side // 2
        z, y, x = np.meshgrid(*(first + steps for first in self.middle), indexing="ij")
        axes = np.array(self.image.GetDirection()).reshape(3, 3) * np.array(self.image.GetSpacing())
        return np.asarray(np.stack([x, y, z], -1) @ axes.T + np.array(self.image.GetOrigin()))


def sphere(voxels: Voxels, middle: "NDArray[np.float64]", diameter: float) -> "NDArray[np.bool_]":
    """Return which of a cube's voxels have their centre within a sphere. middle: x, y, z in mm."""
    return np.asarray(((voxels.world() - middle) ** 2).sum(-1) <= (diameter / 2) ** 2)


def outlined(voxels: Voxels, stored: "SimpleITK.Image", scan: OutlinedScan, nodule: Outlined) -> "NDArray[np.bool_]":
    """Return which of a cube's voxels are nearest to one that readers hold to be inside a nodule.

    stored: the scan as it is on disk, whose columns and rows are those that the readers saw.
    """
    world = voxels.world()
    axes = np.array(stored.GetDirection()).reshape(3, 3) * np.array(stored.GetSpacing())
    index = (world - np.array(stored.GetOrigin())) @ np.linalg.inv(axes).T
    column, row = (np.floor(index[..., axis] + 0.5).astype(np.int64) for axis in (0, 1))
    high = world[..., 2]
    after = np.clip(np.searchsorted(scan.z, high), 1, len(scan.z) - 1)
    layer = after - (high - scan.z[after - 1] < scan.z[after] - high)
    near = np.abs(scan.z[layer] - high) <= scan.spacing[0] / 2 + 1e-3
    places = [at - first for at, first in zip((layer, row, column), nodule.start, strict=True)]
    known = near.copy()
    for at, side in zip(places, nodule.inside.shape, strict=True):
        known &= (at >= 0) & (at < side)
    found = np.zeros(known.shape, dtype=bool)
    found[known] = nodule.inside[tuple(at[known] for at in places)]
    return found
