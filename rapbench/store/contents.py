"""What the files of a store say of themselves: one that is in another's place shows, whatever its name."""

import hashlib
import json
from typing import Any

import safetensors

from rapbench.store.sealed import Damaged

HEATMAPS = "heatmaps"
GALLERY = "gallery"  # heatmaps of the few images that a report shows
DRAWS = "draws"
LABEL = "rapbench"  # of a heatmap file's metadata
UNLABELLED = "it does not say what it holds, as files of other versions do not; `rapbench store gc --stale` removes it"
NUMBERS = {"float32": "F32", "float16": "F16"}  # as safetensors calls them
VERDICT = (str, int, str, int, float, str)  # file, label, SHA-256, prediction, logit, error


def digest_of(key: Any) -> str:
    """Return what names the files of a key."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]


def check_place(label: dict[str, Any], digest: str, chunk: int | None) -> None:
    """Raise Damaged for the label of another key's file, of another chunk, or of a whole cell (None) for a chunk's."""
    if not {"key", "chunk"} <= label.keys():
        raise Damaged(UNLABELLED)
    if digest_of(label["key"]) != digest:
        raise Damaged("it holds the results of something else")
    if label["chunk"] != chunk:
        held, wanted = ("all chunks" if number is None else f"chunk {number}" for number in (label["chunk"], chunk))
        raise Damaged(f"it holds {held} where {wanted} should be")


def heatmap_metadata(key: Any, chunk: int, shape: list[int]) -> dict[str, str]:
    """Return the metadata of a chunk's heatmaps."""
    return {LABEL: json.dumps({"key": key, "chunk": chunk, "shape": shape}, sort_keys=True)}


def heatmap_label(data: bytes) -> dict[str, Any]:
    """Return what heatmaps in a file's bytes say of themselves: key, chunk, shape. Raises Damaged."""
    try:
        found = {name: (about["dtype"], about["shape"]) for name, about in safetensors.deserialize(data)}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = header.get("__metadata__", {}).get(LABEL)
        if text is None:
            raise Damaged(UNLABELLED)
        label = dict(json.loads(text))
        values = (NUMBERS[label["key"]["heatmaps"]], list(label["shape"]))
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged("it is not a file of this store") from error
    scale = ("F32", [size if axis == 0 else 1 for axis, size in enumerate(values[1])])
    if found != {"values": values, "scale": scale}:
        raise Damaged("it has other tensors than it says")
    return label


def draw_bytes(key: Any, batch: int, verdicts: list[tuple[Any, ...]]) -> bytes:
    """Return the bytes of a batch of a draw."""
    return json.dumps({"key": key, "chunk": batch, "verdicts": verdicts}).encode()


def draw_label(data: bytes) -> dict[str, Any]:
    """Return what a batch of a draw holds: key, chunk, and verdicts, each a list of values. Raises Damaged."""
    try:
        label = json.loads(data)
    except ValueError as error:
        raise Damaged("it is not a file of this store") from error
    if not isinstance(label, dict):
        raise Damaged(UNLABELLED)
    verdicts = label.get("verdicts")
    if not isinstance(verdicts, list) or any(
        not isinstance(verdict, list) or tuple(map(type, verdict)) != VERDICT for verdict in verdicts
    ):
        raise Damaged("it holds no verdicts on images")
    return label
