"""Heatmaps kept for later protocols: one file for each chunk of a model x data x method."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from rapbench.protocols.rounding import restored, rounded
from rapbench.store.cell import digest_of
from rapbench.store.sealed import Damaged, read_sealed, sealed_in, set_aside, write_sealed

HEATMAPS = "heatmaps"
GALLERY = "gallery"  # those of the few images that a report shows
LABEL = "rapbench"


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

    def read(self, chunk: int) -> Tensor | None:
        """Return a chunk's (N, H, W) float32 maps as `write` gave them back, or None; what is damaged is set aside."""
        for name, path in sealed_in(self.folder):
            if int(name) == chunk:
                try:
                    return restored(**safetensors.torch.load(read_sealed(path)))
                except FileNotFoundError:
                    return None
                except Damaged as reason:
                    set_aside(path, self.store, reason)
        return None

    def write(self, chunk: int, heatmaps: Tensor) -> Tensor:
        """Keep finite (N, H, W) maps and return them as they will be read, whoever reads them."""
        values, scale = rounded(heatmaps, self.number)
        label = {"key": self.key}
        data = safetensors.torch.save({"values": values, "scale": scale}, {LABEL: json.dumps(label, sort_keys=True)})
        write_sealed(self.folder, f"{chunk:05d}", "safetensors", data)
        return restored(values, scale).to(heatmaps.device)


@dataclass(frozen=True)
class Tap:
    """Lets a chunk's heatmaps pass from and to where they are kept, if they are; keeps the first `count` to show."""

    kept: Heatmaps | None
    shown: Heatmaps
    count: int

    def read(self, chunk: int) -> Tensor | None:
        """Return kept heatmaps, or None."""
        found = self.kept.read(chunk) if self.kept else None
        if found is not None:
            self._show(chunk, found)
        return found

    def write(self, chunk: int, heatmaps: Tensor) -> Tensor:
        """Keep finite (N, H, W) maps and return them as whoever reads them finds them."""
        self._show(chunk, heatmaps)
        return self.kept.write(chunk, heatmaps) if self.kept else heatmaps

    def _show(self, chunk: int, heatmaps: Tensor) -> None:
        if self.shown.read(chunk) is None:
            self.shown.write(chunk, heatmaps[: self.count])
