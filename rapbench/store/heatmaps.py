"""Heatmaps kept for later protocols: one file for each chunk of a model x data x method."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from rapbench.store.cell import UNLABELLED, digest_of
from rapbench.store.sealed import Damaged, chunk_name, chunks_in, read_sealed, set_aside, write_sealed

HEATMAPS = "heatmaps"
GALLERY = "gallery"  # those of the few images that a report shows
LABEL = "rapbench"
FORMATS = {"float32": torch.float32, "float16": torch.float16}


@dataclass(frozen=True)
class Heatmaps:
    """key: everything that determines them. number: float32 as computed, or float16 relative to each map's maximum.

    room: the folder of the store.
    """

    store: Path
    key: dict[str, Any]
    number: str
    room: str = HEATMAPS

    @cached_property
    def folder(self) -> Path:
        """Where the chunks are."""
        return self.store / self.room / digest_of(self.key | {"heatmaps": self.number})

    def read(self, chunk: int, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """Return a chunk's (N, H, W) float32 maps as `write` gave them back, or None; what is damaged is set aside.

        shape: that they must have; None: any.
        """
        for number, path in chunks_in(self.folder, self.store):
            if number == chunk:
                try:
                    return self._checked(read_sealed(path), chunk, shape)
                except FileNotFoundError:
                    return None
                except Damaged as reason:
                    set_aside(path, self.store, reason)
        return None

    def write(self, chunk: int, heatmaps: Tensor) -> Tensor:
        """Keep finite (N, H, W) maps and return them as they will be read, whoever reads them.

        In float16 what lies below 3e-8 of a map's maximum becomes 0.
        """
        scale = torch.ones(len(heatmaps), 1, 1)
        values = heatmaps.cpu()
        if self.number == "float16":
            scale = values.abs().amax((1, 2), keepdim=True)
            scale[scale == 0] = 1
        values = (values / scale).to(FORMATS[self.number]).contiguous()
        label = {"of": self.folder.name, "chunk": chunk, "shape": list(values.shape)}
        data = safetensors.torch.save({"values": values, "scale": scale.contiguous()}, {LABEL: json.dumps(label)})
        write_sealed(self.folder, chunk_name(chunk), "safetensors", data)
        return _restored(values, scale).to(heatmaps.device)

    def _checked(self, data: bytes, chunk: int, shape: tuple[int, ...] | None) -> Tensor:
        held = check_heatmaps(data, self.folder.name, chunk)
        tensors = safetensors.torch.load(data)
        values, scale = tensors["values"], tensors["scale"]
        if values.dtype != FORMATS[self.number] or (shape is not None and held != list(shape)):
            raise Damaged(f"it holds {values.dtype} maps of shape {held}")
        restored = _restored(values, scale)
        if not restored.isfinite().all():
            raise Damaged("its heatmaps are not finite")
        return restored


@dataclass(frozen=True)
class Tap:
    """Lets a chunk's heatmaps pass from and to where they are kept, if they are; keeps the first `count` to show."""

    kept: Heatmaps | None
    shown: Heatmaps
    count: int

    def read(self, chunk: int, shape: tuple[int, ...] | None = None) -> Tensor | None:
        """Return kept heatmaps, or None."""
        found = self.kept.read(chunk, shape) if self.kept else None
        if found is not None:
            self._show(chunk, found)
        return found

    def write(self, chunk: int, heatmaps: Tensor) -> Tensor:
        """Keep finite (N, H, W) maps and return them as whoever reads them finds them."""
        self._show(chunk, heatmaps)
        return self.kept.write(chunk, heatmaps) if self.kept else heatmaps

    def _show(self, chunk: int, heatmaps: Tensor) -> None:
        first = heatmaps[: self.count]
        if self.shown.read(chunk, tuple(first.shape)) is None:
            self.shown.write(chunk, first)


def check_heatmaps(data: bytes, of: str, chunk: int) -> list[int]:
    """Return the shape of the maps in a file's bytes. Raises Damaged where they are not a chunk's of folder `of`."""
    try:
        found = {name: (about["dtype"], about["shape"]) for name, about in safetensors.deserialize(data)}
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        text = header.get("__metadata__", {}).get(LABEL)
        label = json.loads(text) if text else {}
        shape = label["shape"] if label else []
        scale = [*shape[:1], *(1 for _ in shape[1:])]
    except (safetensors.SafetensorError, AttributeError, KeyError, TypeError, ValueError) as error:
        raise Damaged("it is not a file of this store") from error
    if not label:
        raise Damaged(UNLABELLED)
    if label.get("of") != of:
        raise Damaged("it holds the heatmaps of something else")
    if label.get("chunk") != chunk:
        raise Damaged(f"it holds chunk {label.get('chunk')} where chunk {chunk} should be")
    if found.keys() != {"values", "scale"} or found["values"][1] != shape or found["scale"] != ("F32", scale):
        raise Damaged("it has other tensors than it says")
    return shape


def _restored(values: Tensor, scale: Tensor) -> Tensor:
    return values.float() * scale
