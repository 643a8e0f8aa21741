"""Phantoms by their number: which there are, drawn once and kept in the cache."""

import hashlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy
import torch
from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.core.paths import cache_folder
from rapbench.core.random import random_keys, seed_of
from rapbench.data.ct import outlines, phantoms, shapes
from rapbench.data.ct.cubes import MARGIN, SIZE, WINDOW, Cubes
from rapbench.data.ct.kept import keep, kept, packed, record, unpacked
from rapbench.data.ct.shapes import Grid
from rapbench.fingerprint.source import source_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVERY = 5  # one phantom in five is a nodule
DRAWN = 1  # to be raised when other voxels are drawn than before, which moves frozen baselines
CHUNK = 100  # phantoms in a file
MOST = 100_000
LARGEST = 28  # voxels; a nodule that is larger in some direction would not fit the cube with some lung around it
FEWEST_READERS = 3  # as LUNA16's nodules have
EDGE = 4  # voxels drawn around a cube and cut off, so that the blur knows what is beyond it
NODULE = record(SIZE + 2 * MARGIN, ("inside",))
OTHER = record(SIZE)
OUTLINED = np.dtype(
    [("uid", "S64"), ("spacing", "<f8", (3,)), ("texture", "<f8"), ("shape", "u1", (3,)),
     ("inside", "u1", ((LARGEST**3 + 7) // 8,))]
)  # fmt: skip


class PhantomCubes(Cubes):
    """Phantoms 0 to count - 1 of a seed. Each hangs on the seed and its number alone."""

    name = "nodule phantoms"

    def __init__(self, count: int, seed: int = 0, window: tuple[float, float] = WINDOW):
        """Read the outlines; a phantom is drawn when it is asked for. Raises RapbenchError for a count out of range."""
        if not EVERY <= count <= MOST:
            raise RapbenchError(f"data.count={count:,} must be {EVERY} to {MOST:,} phantoms")
        self.count, self.seed, self.window = count, seed, window
        self._folder = cache_folder() / "nodule_phantoms"
        self._outlines = _outlined(self._folder)
        number = np.arange(count)
        self.label = (number % EVERY == 0).astype(np.uint8)
        self._kinds = [_kind(seed, index) for index in range(count)]
        self.names = [f"phantom-{index:05d}-{kind}" for index, kind in enumerate(self._kinds)]
        # Nodules one after the other in an order of the seed, from the first again after the last; scans at random.
        known = self._outlines["uid"]
        order = np.argsort(_keys(seed, "order of nodules", len(known)), kind="stable")
        drawn = (_keys(seed, "scans", count) % len(known)).astype(np.int64)
        self._outline = np.where(self.label == 1, order[number // EVERY % len(known)], drawn)
        uids = known[self._outline]
        found, scan = np.unique(uids, return_inverse=True)
        self.scans = tuple(uid.decode() for uid in found)
        self.scan = scan.astype(np.int32)
        self.identity = hashlib.sha256(f"phantoms {DRAWN} {outlines.SHA256} {seed} {count}".encode()).hexdigest()

    def prepare(self, indices: "NDArray[np.integer]") -> None:
        """Draw those phantoms that the cache lacks, with progress."""
        chunks = np.unique(np.asarray(indices) // CHUNK)
        missing = [int(chunk) for chunk in chunks if not all(path.is_file() for path in self._files(int(chunk)))]
        bar = tqdm(total=len(missing) * CHUNK, desc="nodule phantoms", unit="phantom", delay=1, leave=False)
        with bar:
            for chunk in missing:
                self._draw(chunk, bar)

    def cube(self, index: int, margin: int = 0) -> "NDArray[np.int16]":
        """Return a phantom in HU, (size + 2 margin,) * 3 in the order z, y, x; margin: 0 unless a nodule."""
        return np.asarray(self.inner(self._record(index)["cube"], margin), dtype=np.int16)

    def mask(self, index: int, margin: int = 0) -> "NDArray[np.bool_] | None":
        """Return where the nodule is, of the cube's shape; None for a phantom without one."""
        if not self.label[index]:
            return None
        whole = unpacked(self._record(index)["inside"], NODULE["cube"].shape[0])
        return np.asarray(self.inner(whole, margin), dtype=bool)

    def _record(self, index: int) -> Any:
        if not 0 <= index < self.count:
            raise IndexError(f"phantom {index} of {self.count}")
        place = int(not self.label[index])
        path = self._files(index // CHUNK)[place]
        if not path.is_file():
            self.prepare(np.array([index]))
        records = kept(path, (NODULE, OTHER)[place])
        return records[np.searchsorted(records["row"], index)]

    def _files(self, chunk: int) -> tuple[Path, Path]:
        """Return where a chunk's nodules are, and its others."""
        folder = self._folder / _key(self.seed)
        return folder / f"{chunk:04d}-nodule.npy", folder / f"{chunk:04d}-other.npy"

    def _draw(self, chunk: int, bar: Any) -> None:
        rows = np.arange(chunk * CHUNK, (chunk + 1) * CHUNK)
        # Also those beyond the count: a chunk is the same for all counts.
        whole = self if rows[-1] < self.count else PhantomCubes(int(rows[-1]) + 1, self.seed)
        parts = rows[rows % EVERY == 0], rows[rows % EVERY != 0]
        for path, kind, wanted in zip(self._files(chunk), (NODULE, OTHER), parts, strict=True):
            records = np.zeros(len(wanted), dtype=kind)
            for record_, row in zip(records, wanted, strict=True):
                whole._into(record_, int(row))
                bar.update()
            keep(path, records)

    def _into(self, found: Any, row: int) -> None:
        outlined = self._outlines[self._outline[row]]
        look = phantoms.look_of(self.seed, outlined["uid"].decode())
        rng = phantoms.generator(self.seed, "phantom", row)
        z, y, x = (float(step) for step in outlined["spacing"])
        found["row"] = row
        if self.label[row]:
            inside = unpacked(outlined["inside"], LARGEST)[tuple(slice(side) for side in outlined["shape"])]
            grid = Grid(SIZE + 2 * MARGIN, (z, y, x))
            cube, mask = phantoms.nodule(rng, look, grid, inside, float(outlined["texture"]))
            found["cube"], found["inside"] = cube, packed(mask)
        else:
            grid = Grid(SIZE + 2 * EDGE, (z, y, x))
            found["cube"] = self.inner(phantoms.other(rng, look, grid, self._kinds[row]), 0)


def _kind(seed: int, index: int) -> phantoms.Kind:
    if index % EVERY == 0:
        return "nodule"
    return phantoms.OTHERS[phantoms.generator(seed, "kind", index).choice(len(phantoms.OTHERS), p=phantoms.SHARES)]


def _keys(seed: int, what: str, count: int) -> "NDArray[np.uint64]":
    keys = random_keys(torch.tensor([seed_of("nodule phantoms", what, seed)]), count)[0]
    return keys.numpy().view(np.uint64)


@cache
def _key(*more: object) -> str:
    """Return what kept files are called by, so that none is taken that other code or libraries made."""
    code = [source_of(str(module.__file__)).digest for module in (outlines, phantoms, shapes)]
    parts = [DRAWN, *code, source_of(__file__).digest, outlines.SHA256, np.__version__, scipy.__version__, *more]
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def _outlined(folder: Path) -> "NDArray[Any]":
    """Return the nodules that phantoms are made of, read from the outlines once and kept."""
    path = folder / f"outlines-{_key()}.npy"
    if not path.is_file():
        known = outlines.Outlines()
        found = []
        for uid in tqdm(known.uids, desc="readers' outlines", unit="scan", delay=1, leave=False):
            scan = known.scan(uid)
            for it in known.nodules(scan):
                if it.readers >= FEWEST_READERS and max(it.inside.shape) <= LARGEST:
                    room = np.zeros((LARGEST,) * 3, dtype=bool)
                    room[tuple(slice(side) for side in it.inside.shape)] = it.inside
                    found.append((uid.encode(), scan.spacing, it.texture, it.inside.shape, packed(room)))
        keep(path, np.array(found, dtype=OUTLINED))
    return kept(path, OUTLINED)
