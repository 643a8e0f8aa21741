"""LUNA16 in small, written with SimpleITK, and its cubes cut by hand."""

import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pytest

sitk = pytest.importorskip("SimpleITK")

SIDES = (40, 44, 38)  # x, y, z


@dataclass(frozen=True)
class Small:
    """A scan. spacing, origin: x, y, z in mm. turned: with direction (-1, -1, 1)."""

    uid: str
    subset: int
    spacing: tuple[float, float, float] = (0.7, 0.7, 2.5)
    origin: tuple[float, float, float] = (-312.5, 187.25, -1204.0)
    turned: bool = False

    @property
    def signs(self) -> np.ndarray:
        return np.array((-1, -1, 1) if self.turned else (1, 1, 1))

    @cache  # noqa: B019  a handful of small scans
    def voxels(self) -> np.ndarray:
        rng = np.random.default_rng([int(part) for part in self.uid.split(".")])
        return rng.integers(-1024, 1500, SIDES[::-1]).astype(np.int16)

    def world(self, voxel: tuple[float, float, float]) -> np.ndarray:
        """Where a voxel z, y, x is, x, y, z in mm."""
        return np.array(self.origin) + self.signs * np.array(self.spacing) * np.array(voxel[::-1])


SCANS = [
    Small("1.2.1", 0),
    Small("1.2.2", 1, turned=True),
    Small("1.2.3", 2, spacing=(0.5, 0.5, 1.25), origin=(12.25, -100.0, 30.5), turned=True),
    Small("1.2.4", 3, spacing=(0.9, 0.9, 0.6)),
]
WITHOUT_CANDIDATES = Small("1.2.90", 4)
WITHOUT_SCAN = "1.2.91"
# Voxels z, y, x, not whole, and the class; in the middle and at borders.
PLACES = [((19.2, 20.4, 18.7), 1), ((18, 22.3, 20), 0), ((0, 0, 0), 0), ((37.4, 43.2, 39.3), 1), ((5.5, 30.1, 12), 0)]
DIAMETER = 8.0


def write_scan(folder: Path, scan: Small) -> Path:
    image = sitk.GetImageFromArray(scan.voxels())
    image.SetSpacing(scan.spacing)
    image.SetOrigin(scan.origin)
    image.SetDirection(np.diag(scan.signs).astype(float).ravel().tolist())
    folder.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(folder / f"{scan.uid}.mhd"))
    return folder / f"{scan.uid}.mhd"


def rows() -> list[tuple[str, np.ndarray, int]]:
    """The candidates, scan by scan backwards, one of them without its scan."""
    found = [(scan.uid, scan.world(place), label) for scan in SCANS[::-1] for place, label in PLACES]
    return [*found[:3], (WITHOUT_SCAN, np.zeros(3), 0), *found[3:]]


def write_tables(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{uid},{','.join(repr(float(v)) for v in world)},{label}" for uid, world, label in rows()]
    (folder / "candidates_V2.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,class", *lines, ""]))
    lines = [
        f"{uid},{','.join(repr(float(v)) for v in world)},{DIAMETER}" for uid, world, label in rows() if label == 1
    ]
    (folder / "annotations.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,diameter_mm", *lines, ""]))


def write_tree(root: Path, layout: str = "subsets") -> Path:
    """Write the scans and the tables: in subset0 to subset4, loose, or zipped."""
    for scan in [*SCANS, WITHOUT_CANDIDATES]:
        folder = root / ("deep/er" if layout == "loose" else f"subset{scan.subset}")
        header = write_scan(folder, scan)
        if layout == "zipped":
            with zipfile.ZipFile(root / f"subset{scan.subset}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
                for path in (header, header.with_suffix(".raw")):
                    archive.write(path, f"subset{scan.subset}/{path.name}")
                    path.unlink()
    if layout == "subsets":  # the segmentations of the lungs, by the scans' names
        write_scan(root / "seg-lungs-LUNA16", SCANS[0])
    write_tables(root / {"subsets": "", "loose": "CSVFILES", "zipped": "evaluationScript"}[layout])
    return root


def by_hand(scan: Small, world: np.ndarray, side: int) -> np.ndarray:
    """A cube, voxel by voxel: the nearest voxel's place by the scan's own geometry, and air beyond."""
    return _by_hand(scan, tuple(world), side)


@cache
def _by_hand(scan: Small, world: tuple[float, ...], side: int) -> np.ndarray:
    index = (np.asarray(world) - np.array(scan.origin)) * scan.signs / np.array(scan.spacing)
    middle = [int(np.floor(value + 0.5)) for value in index[::-1]]
    voxels = scan.voxels()
    cube = np.empty((side,) * 3, dtype=np.int16)
    for place in np.ndindex(cube.shape):
        at = [first - side // 2 + step for first, step in zip(middle, place, strict=True)]
        within = all(0 <= value < size for value, size in zip(at, voxels.shape, strict=True))
        cube[place] = voxels[tuple(at)] if within else -1000
    return cube
