"""Per-image results on disk, keyed by what determines them, in chunks that survive a kill."""

import hashlib
import io
import json
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.errors import RapbenchError
from rapbench.files import write_whole


@dataclass(frozen=True)
class Cell:
    """One model x data x method x protocol: a Parquet file once it is finished, a folder of chunks until then.

    key: everything that determines the result, JSON-serialisable. chunks: how many make it whole.
    """

    root: Path
    key: dict[str, Any]
    chunks: int

    @cached_property
    def digest(self) -> str:
        """The key's SHA-256, which names the files."""
        return hashlib.sha256(json.dumps(self.key, sort_keys=True).encode()).hexdigest()[:32]

    @property
    def path(self) -> Path:
        """The finished cell."""
        return self.root / f"{self.digest}.parquet"

    @property
    def parts(self) -> Path:
        """The chunks of a cell in progress."""
        return self.root / f"{self.digest}.parts"

    def has(self, chunk: int) -> bool:
        """Whether a chunk's rows are on disk."""
        return self.path.exists() or self._part(chunk).exists()

    def write(self, chunk: int, columns: dict[str, Any]) -> None:
        """Keep a chunk's rows; the last one makes the cell whole."""
        write_whole(self._part(chunk), _parquet(pa.table(columns)))
        self.finish()

    def finish(self) -> None:
        """Join the chunks into the finished cell once all are there."""
        parts = [self._part(chunk) for chunk in range(self.chunks)]
        if self.path.exists() or not all(part.exists() for part in parts):
            return
        table = pa.concat_tables([_read(part) for part in parts])
        write_whole(self.path, _parquet(table.replace_schema_metadata({"rapbench": json.dumps(self.key)})))
        shutil.rmtree(self.parts, ignore_errors=True)

    def read(self) -> pa.Table:
        """Return the finished cell's rows, in the order of the subset."""
        return _read(self.path).replace_schema_metadata(None)

    def _part(self, chunk: int) -> Path:
        return self.parts / f"{chunk:05d}.parquet"


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def _read(path: Path) -> pa.Table:
    try:
        return pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise RapbenchError(f"{path} cannot be read ({error}); delete it and run again to compute it anew") from error
