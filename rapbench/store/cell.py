"""Per-image results of one model x data x method x protocol, keyed by what determines them."""

import io
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.core.errors import RapbenchError
from rapbench.store.claim import Claim
from rapbench.store.contents import UNLABELLED, check_place, digest_of
from rapbench.store.sealed import Damaged, chunk_name, chunks_in, read_sealed, sealed_in, set_aside, write_sealed

__all__ = ["CELLS", "Cell", "Expected", "digest_of", "label_of", "open_table"]

CELLS = "cells"
LABEL = b"rapbench"


@dataclass(frozen=True)
class Expected:
    """What some rows must be. places: the columns known beforehand, such as row, sign and k, with their values.

    values: the types of the columns that are computed; a column of any floating-point type has None.
    """

    places: pa.Table
    values: dict[str, pa.DataType | None]

    def check(self, table: pa.Table) -> None:
        """Raise Damaged where a table has other rows, columns or types."""
        names = [*self.places.column_names, *self.values]
        if sorted(table.column_names) != sorted(names):
            raise Damaged(f"it has the columns {', '.join(table.column_names)} instead of {', '.join(names)}")
        for name, wanted in self.values.items():
            kind = table.schema.field(name).type
            if not (pa.types.is_floating(kind) if wanted is None else kind == wanted):
                raise Damaged(f"its column {name} has the type {kind}")
            if table.column(name).null_count:
                raise Damaged(f"its column {name} has gaps")
        if not table.select(self.places.column_names).equals(self.places):
            raise Damaged("it has other rows than its place in the store")


@dataclass
class Cell:
    """A Parquet file once it is finished, a folder of chunks until then; several processes may fill it.

    Parameters
    ----------
    key : dict
        Everything that determines the result, JSON-serialisable.
    chunks : int
        How many make it whole.
    about : dict
        What a reader of the store is told of it.
    table, file
        The finished rows, in the order of the subset, and the file that they are in.
    expected : callable
        From a chunk's number to what its rows must be.
    """

    store: Path
    key: dict[str, Any]
    chunks: int
    about: dict[str, str] = field(default_factory=dict)
    table: pa.Table | None = None
    file: Path | None = None
    expected: Callable[[int], Expected] | None = None
    _parts: dict[int, Path] = field(default_factory=dict, repr=False)

    @cached_property
    def digest(self) -> str:
        """The key's SHA-256, which names the files."""
        return digest_of(self.key)

    @property
    def folder(self) -> Path:
        """Where the finished file is, and the folder of chunks."""
        return self.store / CELLS / self.digest[:2]

    @property
    def parts(self) -> Path:
        """The chunks of a cell in progress."""
        return self.folder / f"{self.digest}.parts"

    def has(self, chunk: int) -> bool:
        """Whether a chunk's rows were there and sound at the last refresh."""
        return self.table is not None or chunk in self._parts

    def refresh(self) -> None:
        """Look at the disk: read the finished file, or learn which chunks there are. What is damaged is set aside."""
        if self.table is not None or self._read_finished():
            return
        known, self._parts = self._parts, {}
        for chunk, path in chunks_in(self.parts, self.store, self.chunks):
            if chunk not in self._parts and (known.get(chunk) == path or self._open(path, chunk)):
                self._parts[chunk] = path
        if len(self._parts) == self.chunks:
            self._finish()

    def claim(self, chunk: int) -> Claim | None:
        """Return the right to compute a chunk, or None while another process has it."""
        return Claim.of(self.parts / f"{chunk_name(chunk)}.lock")

    def write(self, chunk: int, columns: dict[str, Any]) -> None:
        """Keep a chunk's rows; the last one makes the cell whole. Raises RapbenchError when they cannot be written."""
        table = pa.table(columns)
        if self.expected:
            try:
                self.expected(chunk).check(table)
            except Damaged as reason:  # it would not be read again
                raise RapbenchError(f"the result of {self.about.get('protocol')} cannot be kept: {reason}") from reason
        self._parts[chunk] = write_sealed(self.parts, chunk_name(chunk), "parquet", self._parquet(table, chunk))
        if len(self._parts) == self.chunks:
            self._finish()

    def _read_finished(self) -> bool:
        for name, path in sealed_in(self.folder):
            if name == self.digest and (table := self._open(path, None)):
                self.table, self.file = table, path
                shutil.rmtree(self.parts, ignore_errors=True)  # of a process killed while it joined
                return True
        return False

    def _finish(self) -> None:
        """Join the chunks into the finished file; one that has gone bad since it was looked at is missing again."""
        tables = {chunk: self._open(path, chunk) for chunk, path in sorted(self._parts.items())}
        if any(table is None for table in tables.values()):
            self._parts = {chunk: path for chunk, path in self._parts.items() if tables[chunk]}
            self._read_finished()  # or another process has just joined and removed them
            return
        if len({str(table.schema) for table in tables.values() if table}) > 1:
            for path in self._parts.values():  # which of them is right cannot be told
                set_aside(path, self.store, Damaged("it and other chunks of its cell have different types"))
            self._parts = {}
            return
        self.table = pa.concat_tables(tables.values())
        self.file = write_sealed(self.folder, self.digest, "parquet", self._parquet(self.table, None))
        shutil.rmtree(self.parts, ignore_errors=True)

    def _open(self, path: Path, chunk: int | None) -> pa.Table | None:
        """Return a chunk's rows, or all (None), from a file; None when it is gone, or damaged and so set aside."""
        try:
            label, table = open_table(path)
            check_place(label, self.digest, chunk)
            if self.expected:
                self._expected_of(chunk).check(table)
            return table
        except FileNotFoundError:
            return None
        except Damaged as reason:
            set_aside(path, self.store, reason)
            return None

    def _expected_of(self, chunk: int | None) -> Expected:
        assert self.expected
        if chunk is not None:
            return self.expected(chunk)
        every = [self.expected(number) for number in range(self.chunks)]
        return Expected(pa.concat_tables([one.places for one in every]), every[0].values)

    def _parquet(self, table: pa.Table, chunk: int | None) -> bytes:
        label = {"key": self.key, "about": self.about, "chunk": chunk} | _described(table.schema, table.num_rows)
        buffer = io.BytesIO()
        labelled = table.replace_schema_metadata({LABEL: json.dumps(label, sort_keys=True)})
        pq.write_table(labelled, buffer, compression="zstd")
        return buffer.getvalue()


def open_table(path: Path) -> tuple[dict[str, Any], pa.Table]:
    """Return what a file says of itself, as `label_of` does, and its rows. Raises Damaged, or FileNotFoundError."""
    file, label = _opened(path)
    try:
        return label, file.read().replace_schema_metadata(None)
    except (pa.ArrowException, OSError) as error:
        raise Damaged("it is not a file of this store") from error


def label_of(path: Path) -> dict[str, Any]:
    """Return what a file says of itself: key, about, chunk, rows, columns. Its bytes are checked, its rows not decoded.

    Raises Damaged, or FileNotFoundError.
    """
    return _opened(path)[1]


def _opened(path: Path) -> tuple[pq.ParquetFile, dict[str, Any]]:
    data = read_sealed(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        schema, rows = file.schema_arrow, file.metadata.num_rows
        label = json.loads((schema.metadata or {})[LABEL])
        if not (isinstance(label["key"], dict) and isinstance(label["about"], dict)):
            raise TypeError("key and about are mappings")
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise Damaged("it is not a file of this store") from error
    if not {"chunk", "rows", "columns"} <= label.keys():
        raise Damaged(UNLABELLED)
    if {name: label[name] for name in ("rows", "columns")} != _described(schema, rows):
        raise Damaged("it has other rows, columns or types than it says")
    return file, label


def _described(schema: pa.Schema, rows: int) -> dict[str, Any]:
    return {"rows": rows, "columns": {field.name: str(field.type) for field in schema}}
