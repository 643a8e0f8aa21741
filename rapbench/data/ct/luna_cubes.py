"""LUNA16's candidates: which there are, and their cubes, cut from the scans once and kept in the cache."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from tqdm import tqdm

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import remove_leftovers
from rapbench.core.paths import cache_folder
from rapbench.data.ct.cubes import MARGIN, SIZE, WINDOW, Cubes
from rapbench.data.ct.kept import keep, kept, packed, record, unpacked
from rapbench.data.ct.luna_geometry import Voxels, centre, cut, outlined, resampled, sphere
from rapbench.data.ct.luna_scans import Scan, find_scans, identity, read
from rapbench.data.ct.luna_tables import Table, annotations, candidates
from rapbench.data.ct.outlines import SHA256, Outlines

if TYPE_CHECKING:
    import SimpleITK
    from numpy.typing import NDArray

Masks = Literal["sphere", "outlines"]
CUT = 1  # to be raised when other voxels are cut than before
FEWEST_READERS = 3  # of a nodule of LUNA16
_beyond = [("beyond", "<i4")]  # voxels of a cube, without its margin, that are not in the scan
NODULE = np.dtype([*record(SIZE + 2 * MARGIN, ("sphere", "outlines")).descr, *_beyond])
OTHER = np.dtype([*record(SIZE).descr, *_beyond])


class LunaCubes(Cubes):
    """The candidates whose scans are below a folder.

    Parameters
    ----------
    root : Path
        With the scans and the tables, in one of LUNA16's layouts.
    table : str
        The candidates' file.
    spacing : float, or None
        Of the voxels in mm, on all sides. None: as they are stored.
    masks : {"sphere", "outlines"}
        What a nodule's mask is: what lies within the annotated sphere, or what the majority of readers outlined.
    window : pair of float
        The HU that become 0 and 1.

    Raises
    ------
    RapbenchError
        For tables that are missing or broken, and where no candidate's scan is there.
    """

    name = "LUNA16"

    def __init__(
        self, root: Path, table: str, spacing: float | None = None, masks: Masks = "sphere",
        window: tuple[float, float] = WINDOW,
    ):  # fmt: skip
        found = candidates(root, table)
        self._annotations = annotations(root)
        if masks == "sphere" and self._annotations is None:
            raise RapbenchError(f"LUNA16: data.masks=sphere needs annotations.csv, which is not near {found.path}")
        self.spacing, self.masks, self.window = spacing, masks, window
        scans = find_scans(root, set(found.uids))
        if not scans:
            raise RapbenchError(f"LUNA16: none of the {len(found.uids):,} scans that {found.path.name} names is below "
                                f"{root} (as subset0 to subset9, .mhd with .raw, or zipped)")  # fmt: skip
        _name_missing(found, scans, root)
        self.scans = tuple(uid for uid in found.uids if uid in scans)
        self._scans = [scans[uid] for uid in self.scans]
        here = np.array([uid in scans for uid in found.uids])
        place = np.where(here, np.cumsum(here) - 1, -1).astype(np.int32)  # both are sorted
        self._rows = np.flatnonzero(place[found.scan] >= 0).astype(np.int32)
        self.scan = place[found.scan[self._rows]]
        self.label = found.value[self._rows].astype(np.uint8)
        self.names = _Names(self.scans, self.scan, self._rows)
        subsets = [scan.subset for scan in self._scans]
        self.subset = None if None in subsets else np.array(subsets, dtype=np.int32)
        self._table = found
        self._world = found.world
        tables = f"{found.sha256} {self._annotations and self._annotations.sha256}"
        self._folder = cache_folder() / "luna16" / _digest(f"{CUT} {tables} {spacing} {SHA256} {SIZE} {MARGIN}")
        self.identity = _digest(f"{CUT} {tables} {spacing} {masks} {' '.join(self.scans)}", 64)
        self._identities: dict[int, str] = {}
        self._shelves: dict[tuple[int, int], list[tuple[Path, NDArray[np.int32]]]] = {}
        self._outlines: Outlines | None = None

    def prepare(self, indices: "NDArray[np.integer]") -> None:
        """Cut those cubes that the cache lacks, scan by scan, with progress; what is cut stays when it is stopped."""
        wanted = np.asarray(indices)
        wanted = wanted[np.argsort(self.scan[wanted], kind="stable")]
        each = np.split(wanted, np.flatnonzero(np.diff(self.scan[wanted])) + 1) if len(wanted) else []
        missing = [(int(self.scan[some[0]]), lacking) for some in each if len(lacking := self._lacking(some))]
        beyond = 0
        bar = tqdm(missing, desc="LUNA16: cubes", unit="scan", delay=1, leave=False)
        for scan, lacking in bar:
            beyond += self._cut(scan, lacking)
        if beyond:
            say(f"LUNA16: {beyond:,} of {sum(len(some) for _, some in missing):,} cubes reach beyond their scan; what "
                "is beyond is air")  # fmt: skip

    def cube(self, index: int, margin: int = 0) -> "NDArray[np.int16]":
        """Return a candidate's cube in HU, (size + 2 margin,) * 3 in the order z, y, x; margin: 0 unless a nodule."""
        return np.asarray(self.inner(self._record(index)["cube"], margin), dtype=np.int16)

    def mask(self, index: int, margin: int = 0) -> "NDArray[np.bool_] | None":
        """Return where the nodule is, of the cube's shape; None where that is not known, or nothing is to be found."""
        if not self.label[index]:
            return None
        whole = unpacked(self._record(index)[self.masks], NODULE["cube"].shape[0])
        return np.asarray(self.inner(whole, margin), dtype=bool) if whole.any() else None

    def beyond(self, index: int) -> int:
        """Return how many voxels of a candidate's cube, without its margin, are not in the scan but air."""
        return int(self._record(index)["beyond"])

    def _record(self, index: int) -> Any:
        found = self._place(index)
        if found is None:
            self.prepare(np.flatnonzero(self.scan == self.scan[index]))  # the others may be asked for next
            found = self._place(index)
            assert found is not None
        path, place = found
        return kept(path, NODULE if self.label[index] else OTHER)[place]

    def _place(self, index: int) -> tuple[Path, int] | None:
        row = self._rows[index]
        for path, rows in self._shelf(int(self.scan[index]), int(self.label[index])):
            place = int(np.searchsorted(rows, row))
            if place < len(rows) and rows[place] == row:
                return path, place
        return None

    def _lacking(self, indices: "NDArray[np.int64]") -> "NDArray[np.int64]":
        """Return those candidates of a scan that are not cut."""
        known = [rows for label in (0, 1) for _, rows in self._shelf(int(self.scan[indices[0]]), label)]
        return indices[~np.isin(self._rows[indices], np.concatenate(known))] if known else indices

    def _shelf(self, scan: int, label: int) -> "list[tuple[Path, NDArray[np.int32]]]":
        """Return a scan's files of cubes, each with its rows, which rise."""
        if (scan, label) not in self._shelves:
            found = sorted((self._folder / self.scans[scan]).glob(f"{self._identity(scan)}-{_KIND[label]}-*.npy"))
            self._shelves[scan, label] = [(path, np.array(kept(path, _TYPE[label])["row"])) for path in found]
        return self._shelves[scan, label]

    def _identity(self, scan: int) -> str:
        if scan not in self._identities:
            self._identities[scan] = identity(self._scans[scan])[:16]
        return self._identities[scan]

    def _cut(self, scan: int, indices: "NDArray[np.int64]") -> int:
        """Cut some candidates of a scan; return how many cubes reach beyond it."""
        stored = read(self._scans[scan])
        image = stored if self.spacing is None else resampled(stored, self.spacing)
        array = _array(image)
        folder, beyond = self._folder / self.scans[scan], 0
        remove_leftovers(folder)
        for label in (0, 1):
            some = np.sort(indices[self.label[indices] == label])
            if not len(some):
                continue
            records = np.zeros(len(some), dtype=_TYPE[label])
            for found, index in zip(records, some, strict=True):
                self._into(found, int(index), stored, image, array)
            beyond += int((records["beyond"] > 0).sum())
            rows = _digest(records["row"].tobytes().hex())
            keep(folder / f"{self._identity(scan)}-{_KIND[label]}-{rows}.npy", records)
            self._shelves.pop((scan, label), None)
        return beyond

    def _into(
        self, found: Any, index: int, stored: "SimpleITK.Image", image: "SimpleITK.Image", array: "NDArray[np.generic]"
    ) -> None:
        row, side = int(self._rows[index]), found["cube"].shape[0]
        world = self._world[row]
        middle = centre(image, world)
        if not _holds(stored, world):
            raise RapbenchError(f"{self._table.row(row)}: the candidate is not within its scan, "
                                f"{self._scans[int(self.scan[index])].where}; are both of LUNA16?")  # fmt: skip
        found["row"], found["cube"], found["beyond"] = row, cut(array, middle, side)[0], cut(array, middle, SIZE)[1]
        if self.label[index]:
            voxels = Voxels(image, middle, side)
            if (near := self._annotated(int(self.scan[index]), world)) is not None:
                found["sphere"] = packed(sphere(voxels, near[:3], float(near[3])))
            found["outlines"] = packed(self._outlined(index, voxels, stored))

    def _annotated(self, scan: int, world: "NDArray[np.float64]") -> "NDArray[np.float64] | None":
        """Return the nearest annotated nodule of a scan, x, y, z and diameter, if it holds a place."""
        known = self._annotations
        if known is None or self.scans[scan] not in known.uids:
            return None
        of = np.flatnonzero(known.scan == known.uids.index(self.scans[scan]))
        away = np.sqrt(((known.world[of] - world) ** 2).sum(1))
        nearest = of[away.argmin()]
        if away.min() > known.value[nearest] / 2:
            return None
        return np.append(known.world[nearest], known.value[nearest])

    def _outlined(self, index: int, voxels: Voxels, stored: "SimpleITK.Image") -> "NDArray[np.bool_]":
        """Return what the readers outlined that is nearest to a cube's middle, a slice away at most."""
        if self._outlines is None:
            self._outlines = Outlines()
        none = np.zeros((voxels.side,) * 3, dtype=bool)
        uid = self.scans[int(self.scan[index])]
        if uid not in self._outlines.uids:
            return none
        scan = self._outlines.scan(uid)
        if not np.allclose(scan.spacing[1:], stored.GetSpacing()[:2], rtol=1e-3):
            return none
        best, least = none, np.inf
        steps = np.array(voxels.image.GetSpacing()[::-1])
        for nodule in self._outlines.nodules(scan):
            inside = outlined(voxels, stored, scan, nodule) if nodule.readers >= FEWEST_READERS else none
            if inside.any():
                away = float(np.sqrt((((np.argwhere(inside) - voxels.side // 2) * steps) ** 2).sum(1)).min())
                if away < least and away <= scan.spacing[0] + 1e-3:
                    best, least = inside, away
        return best


_KIND = ("other", "nodule")
_TYPE = (OTHER, NODULE)


class _Names(Sequence[str]):
    """What the candidates are called, <series UID>/<row>, each made when it is asked for; the first row is 1."""

    def __init__(self, scans: tuple[str, ...], scan: "NDArray[np.int32]", rows: "NDArray[np.int32]"):
        self.scans, self.scan, self.rows = scans, scan, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> "_Names": ...
    def __getitem__(self, index: int | slice) -> "str | _Names":
        if isinstance(index, slice):
            return _Names(self.scans, self.scan[index], self.rows[index])
        return f"{self.scans[self.scan[index]]}/{self.rows[index] + 1}"


def _name_missing(table: Table, scans: dict[str, Scan], root: Path) -> None:
    missing = [place for place, uid in enumerate(table.uids) if uid not in scans]
    if missing:
        names = ", ".join(table.uids[place] for place in missing[:3]) + (", ..." if len(missing) > 3 else "")
        lost = int(np.isin(table.scan, missing).sum())
        say(f"LUNA16: {len(missing):,} of {len(table.uids):,} scans that {table.path.name} names are not below {root} "
            f"({names}); their {lost:,} candidates are left out")  # fmt: skip


def _holds(image: "SimpleITK.Image", world: "NDArray[np.float64]") -> bool:
    """Whether a place is within one of a scan's voxels."""
    middle = centre(image, world)
    return bool((middle >= 0).all() and (middle < image.GetSize()[::-1]).all())


def _array(image: "SimpleITK.Image") -> "NDArray[np.generic]":
    """Return an image's voxels, z, y, x, in its own memory."""
    import SimpleITK

    array = SimpleITK.GetArrayViewFromImage(image)
    if array.ndim != 3:
        raise RapbenchError("LUNA16: a scan with several values a voxel")
    return np.asarray(array)


def _digest(text: str, digits: int = 16) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
