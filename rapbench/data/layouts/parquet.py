"""Images inside parquet files as Hugging Face writes them: a column `image` of encoded bytes, a column `label`.

A few kilobytes of parquet can stand for gigabytes: by compression, which the metadata tells, and by repeating a value,
which only reading shows. So columns are read in batches so small that even the largest value in every row has room.
"""

import json
import subprocess
import sys
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import MOST_IMAGES, UNLABELLED, Dataset, Sample, is_inside, refuse_large
from rapbench.data.layouts.synsets import CLASSES, WNID, synset_index

KEPT_GROUP = 32 << 20  # bytes: a row group up to this size is read whole and kept, a larger one is run through
KEPT = 128 << 20  # bytes of row groups that a process keeps
ROOM = 64 << 20  # bytes of a batch, unless one value takes more; and of a column chunk that need not be images
RATIO = 20  # at most so many times a file's bytes are its images', which hardly compress, where they are over ROOM
# What reads the footers as is done below; a point for each file that it begins.
FOOTERS = """
import sys
import pyarrow.parquet as pq
for path in sys.argv[1:]:
    print(end=".", flush=True)
    try:
        with pq.ParquetFile(path) as file:
            for group in map(file.metadata.row_group, range(file.metadata.num_row_groups)):
                for column in map(group.column, range(group.num_columns)):
                    column.to_dict()
    except Exception:
        pass
"""
MOST_NAMES = 256 << 20  # bytes of all paths in a file

_kept: OrderedDict[tuple[Path, int, int], pa.ChunkedArray] = OrderedDict()


@dataclass(frozen=True)
class ParquetDataset(Dataset):
    """Rows of parquet files. rows: for each image the file among `shards`, the row group, and the row in the group."""

    shards: tuple[Path, ...] = ()
    rows: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False)

    def read(self, file: str) -> bytes:
        """Return an image's bytes; OSError when they are not there. The file is opened anew: processes share none."""
        if file not in self.rows:
            raise FileNotFoundError(f"{self.root} has no image {file}")
        shard, group, row = self.rows[file]
        try:
            value = _value(self.shards[shard], group, row)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise OSError(f"{self.shards[shard]} cannot be read ({_line(error)})") from error
        if value is None:
            raise OSError(f"{self.shards[shard].name} has no bytes in its row")
        refuse_large(len(value))
        return value


def open_parquet(root: Path, shards: list[Path], labelled: bool) -> ParquetDataset:
    """Return the images of parquet files, with their labels or without.

    An image's name is its path's last part where all of them have one of their own, else `<file>#<row>`. Raises
    RapbenchError for a damaged file, a column that is missing, and labels that are not ImageNet's.
    """
    _refuse_fatal(shards)
    paths: list[str | None] = []
    labels: list[int] = []
    places: list[tuple[int, int, int]] = []
    numbered: list[str] = []
    for number, shard in enumerate(shards):
        try:
            with pq.ParquetFile(shard) as file:
                if len(paths) + file.metadata.num_rows > MOST_IMAGES:
                    raise RapbenchError(f"{shard} takes its data set over {MOST_IMAGES:,} rows, too many to be images")
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                found = _paths(file, shard)
                labels += _labels(file, shard) if labelled else [UNLABELLED] * len(found)
        except (pa.ArrowException, OSError, ValueError) as error:
            reason = f"{shard} cannot be read as a parquet file ({_line(error)})"
            raise RapbenchError(f"{reason}; download it again") from error
        if len(found) != sum(sizes) or len(labels) != len(paths) + len(found):
            raise RapbenchError(f"{shard} has other numbers of rows than its metadata says; download it again")
        paths += found
        places += [(number, group, row) for group, size in enumerate(sizes) for row in range(size)]
        numbered += [f"{shard.name}#{row}" for row in range(len(found))]
    if not places:
        raise RapbenchError(f"{root} holds no images: its parquet files have no rows")
    own = [path or "" for path in paths]
    names = own if all(map(is_inside, own)) and max(Counter(own).values()) == 1 else numbered
    samples = sorted((Sample(*pair) for pair in zip(names, labels, strict=True)), key=lambda sample: sample.file)
    return ParquetDataset(
        "parquet", root, samples, "", shards=tuple(shards), rows=dict(zip(names, places, strict=True))
    )


def _refuse_fatal(shards: list[Path]) -> None:
    """Raise RapbenchError for a file whose damaged footer would end the process: it is read in another one first.

    Some footers run into assertions of the library's own, which no Python code can catch.
    """
    done = subprocess.run([sys.executable, "-I", "-c", FOOTERS, *map(str, shards)], capture_output=True, text=True)
    if done.returncode < 0 and done.stdout:
        raise RapbenchError(f"{shards[len(done.stdout) - 1]} cannot be read as a parquet file (its footer is damaged); "
                            "download it again")  # fmt: skip


def _paths(file: pq.ParquetFile, shard: Path) -> list[str | None]:
    """Return the last part of every row's path, or None where there is none."""
    column = _column(file, shard, "image")
    if _is_binary(column.type):
        return [None] * file.metadata.num_rows
    children = {child.name: child.type for child in column.type} if pa.types.is_struct(column.type) else {}
    if not _is_binary(children.get("bytes", pa.null())):
        raise RapbenchError(
            f"{shard}: column 'image' is {column.type!s:.200}; expected encoded bytes, as Hugging Face has them"
        )
    if not pa.types.is_string(children.get("path", pa.null())):
        return [None] * file.metadata.num_rows
    found: list[str | None] = []
    room = MOST_NAMES
    for batch in _batches(file, "image.path"):
        room -= batch.nbytes
        if room < 0:
            raise OSError(f"its paths take more than {MOST_NAMES:,} bytes")
        for row in batch.to_pylist():
            path = row["path"] if row else None
            found.append(path and path.replace("\\", "/").rsplit("/", 1)[-1])
    return found


def _labels(file: pq.ParquetFile, shard: Path) -> list[int]:
    """Return every row's index among the sorted synsets."""
    kind = _column(file, shard, "label").type
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise RapbenchError(f"{shard}: column 'label' is {kind!s:.200}; expected class indices or synsets")
    classes: dict[Any, int | None] = {**synset_index()}
    names = _class_names(file)
    if names and all(WNID.fullmatch(name) for name in names):
        classes |= {number: synset_index().get(name) for number, name in enumerate(names)}
    elif names and len(names) != CLASSES:
        raise RapbenchError(
            f"{shard} has {len(names)} classes ({names[0]!r:.40}, ...), which are not ImageNet's; "
            "data.labels=predicted does without labels"
        )
    else:
        classes |= {number: number for number in range(CLASSES)}
    found = []
    for row, value in enumerate(value for batch in _batches(file, "label") for value in batch.to_pylist()):
        label = classes.get(value)
        if label is None:
            raise RapbenchError(
                f"{shard}, row {row}: label {value!r:.60} is no ImageNet class (0 to {CLASSES - 1}, or a synset); "
                "data.labels=predicted does without labels"
            )
        found.append(label)
    return found


def _column(file: pq.ParquetFile, shard: Path, name: str) -> Any:
    schema = file.schema_arrow
    if schema.get_field_index(name) < 0:
        hint = "; data.labels=predicted does without it" if name == "label" else ""
        raise RapbenchError(f"{shard} has no column {name!r} (it has {', '.join(schema.names)[:200]}){hint}")
    return schema.field(name)


def _class_names(file: pq.ParquetFile) -> list[str]:
    """Return the class names that Hugging Face's metadata gives, if any."""
    try:
        names = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError, RecursionError):
        return []


def _value(shard: Path, group: int, row: int) -> bytes | None:
    key = (shard, shard.stat().st_mtime_ns, group)
    if key in _kept:
        _kept.move_to_end(key)
        return _bytes(_kept[key], row)
    with pq.ParquetFile(shard, buffer_size=1 << 20) as file:
        column = "image" if _is_binary(file.schema_arrow.field("image").type) else "image.bytes"
        size = _chunk(file, group, column).total_uncompressed_size
        batches = []
        taken = 0
        for batch in _batches(file, column, group):
            if size > KEPT_GROUP:
                if row < len(batch):
                    return _bytes(batch, row)
                row -= len(batch)
                continue
            batches.append(batch)
            taken += batch.nbytes
            if taken > ROOM + 4 * size:
                raise OSError(f"its images take more than {taken:,} bytes, and its metadata says {size:,}")
        if size > KEPT_GROUP or sum(map(len, batches)) < file.metadata.row_group(group).num_rows:
            raise OSError("it has fewer rows than its metadata says")
        _kept[key] = pa.chunked_array(batches)
    while len(_kept) > 1 and sum(kept.nbytes for kept in _kept.values()) > KEPT:
        _kept.popitem(last=False)
    return _bytes(_kept[key], row)


def _batches(file: pq.ParquetFile, column: str, group: int | None = None) -> Iterator[pa.Array]:
    """Yield a column's values, of one row group or of all, in batches. Raises OSError for what unpacks to too much."""
    images = column in ("image", "image.bytes")
    for number in range(file.num_row_groups) if group is None else [group]:
        chunk = _chunk(file, number, column)
        packed, size = chunk.total_compressed_size, chunk.total_uncompressed_size
        if size > ROOM and (not images or size > RATIO * packed):
            raise OSError(
                f"{packed:,} bytes of its column {column} unpack to {size:,}, too many for what it should hold"
            )
        rows = min(max(1, ROOM // max(1, size)), 16 if images else 1 << 16)
        for batch in file.iter_batches(rows, [number], [column], use_threads=False):
            yield batch.column(0)


def _chunk(file: pq.ParquetFile, group: int, column: str) -> Any:
    meta = file.metadata.row_group(group)
    for number in range(meta.num_columns):
        if (chunk := meta.column(number)).path_in_schema == column:
            return chunk
    raise OSError(f"it has no column {column}")


def _bytes(column: Any, row: int) -> bytes | None:
    value = column[row].as_py()
    found: bytes | None = value["bytes"] if isinstance(value, dict) else value
    return found


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
