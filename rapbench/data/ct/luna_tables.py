"""LUNA16's tables: candidates and annotations, read into arrays; a broken row is named."""

import csv
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow
from pyarrow import csv as arrow_csv

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import open_regular

if TYPE_CHECKING:
    from numpy.typing import NDArray

FOLDERS = ("", "CSVFILES", "evaluationScript")  # below the root, where the tables may be
CANDIDATES, OLDER, ANNOTATIONS = "candidates_V2.csv", "candidates.csv", "annotations.csv"
UID = re.compile(r"(?=.{1,64}$)[0-9]+(\.[0-9]+)*")  # of DICOM; it names files, too
PLACE = ("coordX", "coordY", "coordZ")
FARTHEST = 1e6  # mm
MOST_BYTES = 1 << 30


@dataclass(frozen=True)
class Table:
    """A table's rows. uids: the scans. scan: (N,) each row's, an index into uids. world: (N, 3) in mm, x, y, z.

    value: (N,) the last column: the class, or the diameter in mm. sha256: of the file.
    """

    path: Path
    uids: list[str]
    scan: "NDArray[np.int32]"
    world: "NDArray[np.float64]"
    value: "NDArray[np.float64]"
    sha256: str

    def row(self, index: int) -> str:
        """Return what to call a row in a message; 1 is the first one below the header."""
        return f"{self.path}, row {index + 1}"


def candidates(root: Path, name: str) -> Table:
    """Return the candidates. Raises RapbenchError where there are none, or a row is broken."""
    path = _find(root, name)
    if path is None:
        older = _find(root, OLDER) if name == CANDIDATES else None
        also = f"; {older} is the older list, which data.candidates={OLDER} takes" if older else ""
        raise RapbenchError(f"LUNA16: {_places(root, name)} has no {name}{also}")
    if path.name == OLDER:
        say(f"{path} is LUNA16's older list of candidates; the paper's 754,975 are those of {CANDIDATES}")
    return _read(path, "class", lambda value: value in (0, 1), "0 or 1")


def annotations(root: Path) -> Table | None:
    """Return the annotated nodules, None where there is no such table. Raises RapbenchError for a broken row."""
    path = _find(root, ANNOTATIONS)
    if path is None:
        return None
    return _read(path, "diameter_mm", lambda value: 0 < value < FARTHEST, "a diameter in mm")


def _find(root: Path, name: str) -> Path | None:
    places = [root / folder / name for folder in FOLDERS]
    return next((path for path in places if path.is_file()), None)


def _places(root: Path, name: str) -> str:
    return f"none of {', '.join(str(root / folder) for folder in FOLDERS)}" if not Path(name).is_absolute() else name


def _read(path: Path, last: str, allowed: Callable[[float], bool], what: str) -> Table:
    numbers = dict.fromkeys([*PLACE, last], pyarrow.float64())
    text = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
    options = arrow_csv.ConvertOptions(
        column_types={**numbers, "seriesuid": text}, include_columns=["seriesuid", *PLACE, last],
        null_values=[], strings_can_be_null=False,
    )  # fmt: skip
    try:
        with open_regular(path) as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise RapbenchError(f"{path} cannot be read ({error.strerror or error})") from error
    if len(data) > MOST_BYTES:
        raise RapbenchError(f"{path} is larger than {MOST_BYTES >> 20} MiB; is it the right file?")
    try:
        found = arrow_csv.read_csv(pyarrow.BufferReader(data), convert_options=options)
    except (pyarrow.ArrowInvalid, pyarrow.ArrowKeyError) as error:
        raise _broken(path, data, last, allowed, what, str(error)) from error
    if not len(found):
        raise RapbenchError(f"{path} has no rows")
    series = found["seriesuid"].combine_chunks()
    series = series if isinstance(series, pyarrow.DictionaryArray) else series.chunk(0)
    uids = series.dictionary.to_pylist()
    world = np.stack([found[name].to_numpy() for name in PLACE], 1)
    value = found[last].to_numpy()
    good = np.abs(world).max(1) < FARTHEST  # and so no NaN
    good &= np.isin(value, [v for v in np.unique(value) if allowed(v)])
    if not good.all() or not all(uid and UID.fullmatch(uid) for uid in uids):
        raise _broken(path, data, last, allowed, what, "a row is broken")
    order = np.argsort(uids)
    place = np.empty(len(uids), dtype=np.int32)
    place[order] = np.arange(len(uids))
    scan = place[series.indices.to_numpy()]
    return Table(path, sorted(uids), scan, world, value, hashlib.sha256(data).hexdigest())


def _broken(
    path: Path, data: bytes, last: str, allowed: Callable[[float], bool], what: str, reason: str
) -> RapbenchError:
    """Return the line for the first row that cannot be understood."""
    rows = csv.reader(data.decode("utf-8-sig", errors="replace").splitlines())
    header = next(rows, [])
    wanted = ["seriesuid", *PLACE, last]
    if missing := [name for name in wanted if name not in header]:
        return RapbenchError(f"{path} has no column {missing[0]}; its first line must name {', '.join(wanted)}")
    try:
        for number, cells in enumerate(rows, start=1):
            if cells and (wrong := _wrong(dict(zip(header, cells, strict=False)), header, cells, last, allowed, what)):
                return RapbenchError(f"{path}, row {number}: {wrong}")
    except csv.Error as error:
        reason = str(error)
    return RapbenchError(f"{path} cannot be read as CSV ({' '.join(reason.split())[:200]})")


def _wrong(row: dict[str, str], header: list[str], cells: list[str], last: str, allowed: Any, what: str) -> str:
    """Return what is wrong with a row; nothing where nothing is."""
    if len(cells) != len(header):
        return f"{len(cells)} columns, where the first line names {len(header)}"
    if not UID.fullmatch(row["seriesuid"]):
        return f"seriesuid {row['seriesuid']!r:.80} is no series UID, which has digits and dots"
    for name in (*PLACE, last):
        try:
            value = float(row[name])
        except ValueError:
            return f"{name} {row[name]!r:.40} is not a number"
        if name == last and not allowed(value):
            return f"{name} {row[name]!r:.40} must be {what}"
        if not abs(value) < FARTHEST:
            return f"{name} {row[name]!r:.40} is no place in mm"
    return ""
