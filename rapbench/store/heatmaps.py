"""Heatmaps kept for later protocols: one file for each chunk of a model x data x method."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from rapbench.protocols.base.rounding import restored, rounded
from rapbench.store.contents import GALLERY, HEATMAPS, check_place, digest_of, heatmap_label, heatmap_metadata
from rapbench.store.sealed import Damaged, chunk_name, chunks_in, read_sealed, set_aside, write_sealed

__all__ = ["GALLERY", "HEATMAPS", "Heatmaps", "Tap"]


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
        return self.store / self.room / digest_of(self._whole_key)

    @property
    def _whole_key(self) -> dict[str, Any]:
        return self.key | {"heatmaps": self.number}

    def read(self, chunk: int, shape: tuple[int, ...] = ()) -> Tensor | None:
        """Return a chunk's (N, *space) float32 maps as `write` gave them back, or None; what is damaged is set aside.

        shape: that they must have, or begin with.
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
        """Keep finite (N, *space) maps and return them as they will be read, whoever reads them."""
        values, scale = rounded(heatmaps, self.number)
        metadata = heatmap_metadata(self._whole_key, chunk, list(values.shape))
        data = safetensors.torch.save({"values": values, "scale": scale}, metadata)
        write_sealed(self.folder, chunk_name(chunk), "safetensors", data)
        return restored(values, scale).to(heatmaps.device)

    def _checked(self, data: bytes, chunk: int, shape: tuple[int, ...]) -> Tensor:
        label = heatmap_label(data)
        check_place(label, self.folder.name, chunk)
        if label["shape"][: len(shape)] != list(shape):
            raise Damaged(f"it holds maps of shape {label['shape']}")
        maps = restored(**safetensors.torch.load(data))
        if not maps.isfinite().all():
            raise Damaged("its heatmaps are not finite")
        return maps


@dataclass(frozen=True)
class Tap:
    """Lets a chunk's heatmaps pass from and to where they are kept, if they are; keeps the first `count` to show."""

    kept: Heatmaps | None
    shown: Heatmaps
    count: int

    @property
    def number(self) -> str | None:
        """The format of what is kept; None where nothing is."""
        return self.kept.number if self.kept else None

    def read(self, chunk: int, shape: tuple[int, ...] = ()) -> Tensor | None:
        """Return kept heatmaps, or None."""
        found = self.kept.read(chunk, shape) if self.kept else None
        if found is not None:
            self._show(chunk, found)
        return found

    def write(self, chunk: int, heatmaps: Tensor) -> Tensor:
        """Keep finite (N, *space) maps and return them as whoever reads them finds them."""
        self._show(chunk, heatmaps)
        return self.kept.write(chunk, heatmaps) if self.kept else heatmaps

    def _show(self, chunk: int, heatmaps: Tensor) -> None:
        first = heatmaps[: self.count]
        if self.shown.read(chunk, tuple(first.shape)) is None:
            self.shown.write(chunk, first)
