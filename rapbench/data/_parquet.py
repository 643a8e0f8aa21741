"""Images inside parquet files as Hugging Face writes them: a column `image` of encoded bytes, a column `label`."""

import json
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.data._dataset import UNLABELLED, Dataset, Sample
from rapbench.data._synsets import CLASSES, WNID, synset_index
from rapbench.errors import RapbenchError

KEPT_GROUP = 32 << 20  # bytes: a row group up to this size is read whole and kept, a larger one is run through
KEPT = 128 << 20  # bytes of row groups that a process keeps

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
        except pa.ArrowException as error:
            raise OSError(f"{self.shards[shard]} cannot be read ({_line(error)})") from error
        if value is None:
            raise OSError(f"{self.shards[shard].name} has no bytes in its row")
        return value


def open_parquet(root: Path, shards: list[Path], labelled: bool) -> ParquetDataset:
    """Return the images of parquet files, with their labels or without.

    An image's name is its path's last part where all of them have one of their own, else `<file>#<row>`. Raises
    RapbenchError for a damaged file, a column that is missing, and labels that are not ImageNet's.
    """
    paths: list[str | None] = []
    labels: list[int] = []
    places: list[tuple[int, int, int]] = []
    numbered: list[str] = []
    for number, shard in enumerate(shards):
        try:
            with pq.ParquetFile(shard) as file:
                sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
                found = _paths(file, shard)
                labels += _labels(file, shard) if labelled else [UNLABELLED] * len(found)
        except (pa.ArrowException, OSError) as error:
            reason = f"{shard} cannot be read as a parquet file ({_line(error)})"
            raise RapbenchError(f"{reason}; download it again") from error
        paths += found
        places += [(number, group, row) for group, size in enumerate(sizes) for row in range(size)]
        numbered += [f"{shard.name}#{row}" for row in range(len(found))]
    if not places:
        raise RapbenchError(f"{root} holds no images: its parquet files have no rows")
    own = [path.replace("\\", "/").rsplit("/", 1)[-1] if path else "" for path in paths]
    names = own if all(own) and max(Counter(own).values()) == 1 else numbered
    samples = sorted((Sample(*pair) for pair in zip(names, labels, strict=True)), key=lambda sample: sample.file)
    return ParquetDataset(
        "parquet", root, samples, "", shards=tuple(shards), rows=dict(zip(names, places, strict=True))
    )


def _paths(file: pq.ParquetFile, shard: Path) -> list[str | None]:
    """Return every row's path, or None where there is none."""
    column = _column(file, shard, "image")
    if _is_binary(column.type):
        return [None] * file.metadata.num_rows
    children = {child.name: child.type for child in column.type} if pa.types.is_struct(column.type) else {}
    if not _is_binary(children.get("bytes", pa.null())):
        raise RapbenchError(
            f"{shard}: column 'image' is {column.type}; expected encoded bytes, as Hugging Face has them"
        )
    if not pa.types.is_string(children.get("path", pa.null())):
        return [None] * file.metadata.num_rows
    rows = file.read(columns=["image.path"], use_threads=False)["image"].to_pylist()
    return [row and row["path"] for row in rows]


def _labels(file: pq.ParquetFile, shard: Path) -> list[int]:
    """Return every row's index among the sorted synsets."""
    kind = _column(file, shard, "label").type
    text = kind.value_type if pa.types.is_dictionary(kind) else kind
    if not (pa.types.is_integer(kind) or pa.types.is_string(text) or pa.types.is_large_string(text)):
        raise RapbenchError(f"{shard}: column 'label' is {kind}; expected class indices or synsets")
    classes: dict[Any, int | None] = {**synset_index()}
    names = _class_names(file)
    if names and all(WNID.fullmatch(name) for name in names):
        classes |= {number: synset_index().get(name) for number, name in enumerate(names)}
    elif names and len(names) != CLASSES:
        raise RapbenchError(
            f"{shard} has {len(names)} classes ({names[0]!r}, ...), which are not ImageNet's; data.labels=predicted "
            "does without labels"
        )
    else:
        classes |= {number: number for number in range(CLASSES)}
    found = []
    for row, value in enumerate(file.read(columns=["label"], use_threads=False)["label"].to_pylist()):
        label = classes.get(value)
        if label is None:
            raise RapbenchError(
                f"{shard}, row {row}: label {value!r} is no ImageNet class (0 to {CLASSES - 1}, or a synset); "
                "data.labels=predicted does without labels"
            )
        found.append(label)
    return found


def _column(file: pq.ParquetFile, shard: Path, name: str) -> Any:
    schema = file.schema_arrow
    if schema.get_field_index(name) < 0:
        hint = "; data.labels=predicted does without it" if name == "label" else ""
        raise RapbenchError(f"{shard} has no column {name!r} (it has {', '.join(schema.names)}){hint}")
    return schema.field(name)


def _class_names(file: pq.ParquetFile) -> list[str]:
    """Return the class names that Hugging Face's metadata gives, if any."""
    try:
        names = json.loads(file.schema_arrow.metadata[b"huggingface"])["info"]["features"]["label"]["names"]
        return [str(name) for name in names]
    except (KeyError, TypeError, ValueError):
        return []


def _value(shard: Path, group: int, row: int) -> bytes | None:
    key = (shard, shard.stat().st_mtime_ns, group)
    if key in _kept:
        _kept.move_to_end(key)
        return _bytes(_kept[key], row)
    with pq.ParquetFile(shard, buffer_size=1 << 20) as file:
        column = "image" if _is_binary(file.schema_arrow.field("image").type) else "image.bytes"
        meta = file.metadata.row_group(group)
        chunks = (meta.column(i) for i in range(meta.num_columns))
        size = next(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema == column)
        if size > KEPT_GROUP:
            for batch in file.iter_batches(16, [group], [column], use_threads=False):
                if row < batch.num_rows:
                    return _bytes(batch.column(0), row)
                row -= batch.num_rows
        _kept[key] = file.read_row_group(group, [column], use_threads=False).column(0)
    while len(_kept) > 1 and sum(kept.nbytes for kept in _kept.values()) > KEPT:
        _kept.popitem(last=False)
    return _bytes(_kept[key], row)


def _bytes(column: Any, row: int) -> bytes | None:
    value = column[row].as_py()
    return value["bytes"] if isinstance(value, dict) else value


def _is_binary(kind: Any) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
