"""A run's per-image results as files: read only when they are what a run writes."""

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.errors import RapbenchError

NAMES = ("images.parquet", "distances.parquet", "regions.parquet")
TEXT, WHOLE, NUMBER, YES_OR_NO = "text", "whole numbers", "numbers", "yes or no"
_OF_ALL = {"image": TEXT, "label": WHOLE, "method": TEXT, "perturbation": TEXT}
COLUMNS: dict[str, dict[str, str]] = {
    "images.parquet": _OF_ALL
    | {"sign": TEXT, "k": TEXT, "selected": WHOLE, "predicted": WHOLE, "correct": YES_OR_NO, "logit": NUMBER},
    "distances.parquet": _OF_ALL | {"sign": TEXT, "k": TEXT, "selected": WHOLE, "distance": NUMBER},
    "regions.parquet": _OF_ALL
    | {"order": TEXT, "output": TEXT, "step": WHOLE, "score": NUMBER, "predicted": WHOLE, "correct": YES_OR_NO},
}
# What a column's values may be, as a regular expression.
VALUES = {
    "sign": "positive|negative",
    "k": "[0-9]{1,10}|all",
    "order": "morf|lerf|random",
    "output": "logit|probability",
}
KEYS = ("method", "perturbation", "sign", "order", "k", "step", "image")
# A row takes a byte at least, as no two logits are alike; bytes grow this many times at most when they are unpacked.
FREE_ROWS, FREE_BYTES, GROWTH = 1_000_000, 64 << 20, 100
AGAIN = "the same run writes it again from the store"


def read_results(path: Path) -> pd.DataFrame:
    """Return the results in one of NAMES: its COLUMNS, a row for each image and cell.

    Raises RapbenchError for a file that cannot be read, or is not as a run writes it: a column that is missing or of
    another kind, an empty value, an unknown one, or a row that is there twice.
    """
    wanted = COLUMNS[path.name]
    try:
        if not path.is_file():
            raise RapbenchError(f"{path} is not a file")
        _check_size(path)
        table = pq.ParquetFile(path, memory_map=False).read(columns=list(wanted))
        for number, field in enumerate(table.schema):
            if pa.types.is_dictionary(field.type):
                table = table.set_column(number, field.name, table.column(number).cast(field.type.value_type))
        for name, kind in wanted.items():
            _check_column(path, table, name, kind)
        frame = table.select(list(wanted)).to_pandas()
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError) as error:
        raise RapbenchError(f"{path} cannot be read ({' '.join(str(error).split()):.200}); {AGAIN}") from error
    for name, pattern in VALUES.items():
        if name in frame:
            known = frame[name].drop_duplicates()
            if len(odd := known[~known.str.fullmatch(pattern)]):
                raise _wrong(path, f"column {name!r} holds {odd.iloc[0]!r:.60}")
    keys = [name for name in KEYS if name in frame]
    if len(twice := frame[frame.duplicated(keys)]):
        raise RapbenchError(f"{path} holds {' '.join(map(str, twice[keys].iloc[0]))} twice; run again")
    if (
        "step" in frame
        and len(frame)
        and not frame.groupby([key for key in keys if key != "step"])["step"].min().eq(0).all()
    ):
        raise _wrong(path, "it has cells without step 0")
    return frame


def _check_size(path: Path) -> None:
    size, about = path.stat().st_size, pq.read_metadata(path)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if about.num_rows > max(FREE_ROWS, size) or unpacked > max(FREE_BYTES, GROWTH * size):
        raise _wrong(path, f"{size:,} bytes are said to hold {about.num_rows:,} rows")


def _check_column(path: Path, table: pa.Table, name: str, kind: str) -> None:
    if name not in table.column_names:
        raise _wrong(path, f"it has no column {name!r}")
    column = table.column(name)
    type: Any = column.type
    fits = {
        TEXT: pa.types.is_string(type) or pa.types.is_large_string(type),
        WHOLE: pa.types.is_integer(type),
        NUMBER: pa.types.is_floating(type),
        YES_OR_NO: pa.types.is_boolean(type),
    }
    if not fits[kind]:
        raise _wrong(path, f"column {name!r} is {type}, not {kind}")
    if column.null_count and kind != NUMBER:
        raise _wrong(path, f"column {name!r} has empty values")


def _wrong(path: Path, what: str) -> RapbenchError:
    return RapbenchError(f"{path} is not what a run writes: {what}; {AGAIN}")
