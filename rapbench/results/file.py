"""results.parquet: a run's tidy frame as a file that tells what its columns mean, and is read only when it is one.

Format 1. Columns: as `run.COLUMNS`; text, but `label` (int64) and `value` (float64: a share is 0 or 1, a count a whole
number, NaN is no number). The schema's metadata holds, under `rapbench`, JSON: `format`, `model`, `data`, `inputs`,
`pixels` (of an input), `methods` and `protocols` with their metrics (title, unit, kind, which direction is better).
"""

import io
import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import NonNegativeInt, TypeAdapter, ValidationError

from rapbench.core.errors import RapbenchError
from rapbench.core.reading import is_text
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import COLUMNS, Run, tables_of

NAME = "results.parquet"
FORMAT = 1
LABEL = b"rapbench"
# A step: a number of pixels, a share such as 0.25 or 5%, `all`, or nothing for a number without steps.
STEP = r"[0-9]{1,10}(?:\.[0-9]{1,10})?%?|all|"
# No two logits are alike, so some bytes a row; and bytes grow this many times at most when they are unpacked.
FREE_ROWS, ROWS_A_BYTE, FREE_BYTES, GROWTH = 1_000_000, 4, 64 << 20, 100
AGAIN = "the same run writes it again from the store"


def to_bytes(run: Run) -> bytes:
    """Return a run's results.parquet; the same results, the same bytes."""
    about = {
        "format": FORMAT,
        "model": run.model,
        "data": run.data,
        "inputs": run.inputs,
        "pixels": run.pixels,
        "methods": {label: asdict(method) for label, method in run.methods.items()},
        "protocols": {label: asdict(protocol) for label, protocol in run.protocols.items()},
    }
    frame = run.frame
    arrays = [pa.array(frame[name].to_numpy()) if name in ("label", "value") else
              pa.array(frame[name]).cast(pa.dictionary(pa.int32(), pa.string())) for name in COLUMNS]  # fmt: skip
    table = pa.table(arrays, names=COLUMNS).replace_schema_metadata({LABEL: json.dumps(about)})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read(path: Path, about: dict[str, Any] | None = None) -> Run:
    """Return the run that a results.parquet holds.

    Raises RapbenchError for a file that cannot be read, or is not as a run writes it: a column that is missing or of
    another type, a value that its metric cannot have, or a number that is there twice.
    """
    try:
        if not path.is_file():
            raise RapbenchError(f"{path} is not a file")
        _check_size(path)
        table = pq.ParquetFile(path, memory_map=False).read()
        facts = json.loads((table.schema.metadata or {}).get(LABEL, b"null"))
        if not isinstance(facts, dict):
            raise _wrong(path, "it does not say what its metrics are")
        if facts.get("format") != FORMAT:
            raise RapbenchError(f"{path} has format {facts.get('format')!r:.20}, and this version reads {FORMAT}")
        methods = TypeAdapter(dict[str, MethodInfo]).validate_python(facts["methods"])
        protocols = TypeAdapter(dict[str, ProtocolInfo]).validate_python(facts["protocols"])
        model, data, inputs = (TypeAdapter(str).validate_python(facts[name]) for name in ("model", "data", "inputs"))
        pixels = TypeAdapter(NonNegativeInt).validate_python(facts.get("pixels", 0), strict=True)
        if not all(map(is_text, (model, data, inputs, *methods, *protocols))):
            raise _wrong(path, "it names something that is no text")
        frame = _frame(path, table)
        _check(path, frame, methods, protocols)
        tables, numbers = tables_of(frame, protocols)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise _wrong(path, f"what it says of its metrics ({where:.60}: {first['msg']})") from error
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        raise RapbenchError(f"{path} cannot be read ({' '.join(str(error).split()):.200}); {AGAIN}") from error
    return Run(model, data, methods, protocols, tables, numbers, inputs, about or {}, pixels=pixels)


def _check_size(path: Path) -> None:
    size, about = path.stat().st_size, pq.read_metadata(path)
    groups = [about.row_group(number) for number in range(about.num_row_groups)]
    unpacked = sum(group.total_byte_size for group in groups)
    if about.num_rows > max(FREE_ROWS, ROWS_A_BYTE * size) or unpacked > max(FREE_BYTES, GROWTH * size):
        raise _wrong(path, f"{size:,} bytes are said to hold {about.num_rows:,} rows")


def _frame(path: Path, table: pa.Table) -> pd.DataFrame:
    """Return the columns, each checked."""
    found = {}
    for name in COLUMNS:
        if table.column_names.count(name) != 1:
            raise _wrong(path, f"it has no column {name!r}")
        column = table.column(name)
        kind: Any = column.type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        wanted = {"label": pa.types.is_integer, "value": pa.types.is_floating}.get(name)
        fits = wanted(kind) if wanted else pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not fits:
            raise _wrong(path, f"column {name!r} is {kind}")
        if column.null_count:
            raise _wrong(path, f"column {name!r} has empty values")
        series = column.to_pandas()
        found[name] = series if wanted else series.astype("category")
    return pd.DataFrame(found)


def _check(path: Path, frame: pd.DataFrame, methods: dict[str, MethodInfo], protocols: dict[str, ProtocolInfo]) -> None:
    """Raise RapbenchError for values that the metrics cannot have."""
    for name, known in (("method", methods), ("protocol", protocols)):
        if odd := [value for value in frame[name].cat.categories if value not in known]:
            raise _wrong(path, f"column {name!r} holds {odd[0]!r:.60}, of which it says nothing")
    if odd := [step for step in frame["k"].cat.categories if not re.fullmatch(STEP, step)]:
        raise _wrong(path, f"column 'k' holds {odd[0]!r:.60}")
    keys = ["protocol", "metric", "method", "variant", "k", "input"]
    if len(twice := frame[frame.duplicated(keys)]):
        raise RapbenchError(f"{path} holds {' '.join(map(str, twice[keys].iloc[0]))} twice; run again")
    for (protocol, metric), values in frame.groupby(["protocol", "metric"], observed=True)["value"]:
        info = protocols[str(protocol)]
        found = next((one for one in (*info.metrics, *info.summaries) if one.name == metric), None)
        if found is None:
            raise _wrong(path, f"protocol {protocol!r} has no metric {metric!r:.60}")
        whole = np.isfinite(values) & (values == np.round(values)) & (values.abs() < 2**53)
        share = values.isin([0, 1]) | (values.isna() & found.undefined)
        fits = {"count": whole, "share": share}.get(found.kind)
        if fits is not None and not fits.all():
            raise _wrong(path, f"metric {metric!r} of {protocol!r} is a {found.kind}, and has {values[~fits].iloc[0]}")


def _wrong(path: Path, what: str) -> RapbenchError:
    return RapbenchError(f"{path} is not what a run writes: {what}; {AGAIN}")
