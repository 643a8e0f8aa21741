"""Cubes on disk: NumPy files of records, each written whole or not at all, and read by mapping them into memory."""

import io
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

OPEN_AT_ONCE = 128  # mapped files; each keeps a file descriptor, of which a process often has 1,024


def record(side: int, masks: tuple[str, ...] = ()) -> "np.dtype[Any]":
    """Return the type of a record: row, its number; cube, (side,) * 3 in HU; masks by name, a bit for a voxel."""
    packed = [(name, "u1", ((side**3 + 7) // 8,)) for name in masks]
    return np.dtype([("row", "<i4"), ("cube", "<i2", (side,) * 3), *packed])


def keep(path: Path, records: "NDArray[Any]") -> None:
    """Write records. Raises RapbenchError when the file cannot be written."""
    data = io.BytesIO()
    np.save(data, records, allow_pickle=False)
    write_whole(path, data.getvalue())


@lru_cache(maxsize=OPEN_AT_ONCE)
def kept(path: Path, kind: "np.dtype[Any]") -> "NDArray[Any]":
    """Return a file's records, mapped. Raises RapbenchError for a damaged one, OSError where there is none."""
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path) from error
    if found.dtype != kind or found.ndim != 1:
        raise _damaged(path)
    return np.asarray(found)


def packed(mask: "NDArray[np.bool_]") -> "NDArray[np.uint8]":
    """Return a mask, a bit for a voxel."""
    return np.packbits(mask.reshape(-1))


def unpacked(bits: "NDArray[np.uint8]", side: int) -> "NDArray[np.bool_]":
    """Return a mask, (side,) * 3."""
    return np.unpackbits(bits, count=side**3).reshape((side,) * 3).astype(bool)


def _damaged(path: Path) -> RapbenchError:
    return RapbenchError(f"{path} is damaged; remove it, and it is made again")
