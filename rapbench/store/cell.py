"""Per-image results of one model x data x method x protocol, keyed by what determines them."""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.store.claim import Claim
from rapbench.store.sealed import Damaged, read_sealed, sealed_in, set_aside, write_sealed

CELLS = "cells"
LABEL = b"rapbench"


@dataclass
class Cell:
    """A Parquet file once it is finished, a folder of chunks until then; several processes may fill it.

    key: everything that determines the result, JSON-serialisable. chunks: how many make it whole. about: what a reader
    of the store is told of it. table: the finished rows, in the order of the subset.
    """

    store: Path
    key: dict[str, Any]
    chunks: int
    about: dict[str, str] = field(default_factory=dict)
    table: pa.Table | None = None
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
        for name, path in sealed_in(self.parts):
            chunk = int(name)
            if chunk not in self._parts and (known.get(chunk) == path or self._open(path)):
                self._parts[chunk] = path
        if len(self._parts) == self.chunks:
            self._finish()

    def claim(self, chunk: int) -> Claim | None:
        """Return the right to compute a chunk, or None while another process has it."""
        return Claim.of(self.parts / f"{chunk:05d}.lock")

    def write(self, chunk: int, columns: dict[str, Any]) -> None:
        """Keep a chunk's rows; the last one makes the cell whole. Raises RapbenchError when they cannot be written."""
        data = self._parquet(pa.table(columns))
        self._parts[chunk] = write_sealed(self.parts, f"{chunk:05d}", "parquet", data)
        if len(self._parts) == self.chunks:
            self._finish()

    def _read_finished(self) -> bool:
        for name, path in sealed_in(self.folder):
            if name == self.digest and (table := self._open(path)):
                self.table = table
                shutil.rmtree(self.parts, ignore_errors=True)  # of a process killed while it joined
                return True
        return False

    def _finish(self) -> None:
        """Join the chunks into the finished file; one that has gone bad since it was looked at is missing again."""
        tables = {chunk: self._open(path) for chunk, path in sorted(self._parts.items())}
        if any(table is None for table in tables.values()):
            self._parts = {chunk: path for chunk, path in self._parts.items() if tables[chunk]}
            self._read_finished()  # or another process has just joined and removed them
            return
        self.table = pa.concat_tables(tables.values())
        write_sealed(self.folder, self.digest, "parquet", self._parquet(self.table))
        shutil.rmtree(self.parts, ignore_errors=True)

    def _open(self, path: Path) -> pa.Table | None:
        """Return the rows in a file; None when it is gone, or damaged and therefore set aside."""
        try:
            label, table = open_table(path)
            if digest_of(label["key"]) == self.digest:
                return table
            raise Damaged("it holds the results of something else")
        except FileNotFoundError:
            return None
        except Damaged as reason:
            set_aside(path, self.store, reason)
            return None

    def _parquet(self, table: pa.Table) -> bytes:
        label = json.dumps({"key": self.key, "about": self.about}, sort_keys=True)
        buffer = io.BytesIO()
        pq.write_table(table.replace_schema_metadata({LABEL: label}), buffer, compression="zstd")
        return buffer.getvalue()


def digest_of(key: dict[str, Any]) -> str:
    """Return what names the files of a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def open_table(path: Path) -> tuple[dict[str, Any], pa.Table]:
    """Return what a file says of itself, {key, about}, and its rows. Raises Damaged, or FileNotFoundError."""
    data = read_sealed(path)
    try:
        table = pq.read_table(io.BytesIO(data))
        label = json.loads((table.schema.metadata or {})[LABEL])
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise Damaged("it is not a file of this store") from error
    return label, table.replace_schema_metadata(None)
