"""Ready-made heatmaps as a user names them, and as they belong to the images of a run."""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign

if TYPE_CHECKING:
    from torch import Tensor

    from rapbench.heatmaps.matching import Row
    from rapbench.heatmaps.stored import Stored

SIGNS: tuple[Sign, ...] = ("positive", "negative")
ENDING = re.compile(r"\.(npy|safetensors|pt)$")


@dataclass(frozen=True)
class Matched:
    """The heatmaps of a run's images.

    Parameters
    ----------
    maps : dict
        By the image's name: where its heatmap is stored, and the SHA-256 of what it must be.
    space : tuple of int
        The spatial dimensions of a heatmap, those of the model's inputs.
    signs : tuple of {"positive", "negative"}
        The signs that any of them has.
    sha256 : str
        Of all maps, in the images' order.
    """

    maps: "dict[str, tuple[Stored, str]]"
    space: tuple[int, ...]
    signs: tuple[Sign, ...]
    sha256: str

    def of(self, rows: "Sequence[Row]") -> "Tensor":
        """Return (N, *space) float32 heatmaps of images, read again. Raises RapbenchError where one has changed."""
        import torch

        found = []
        for row in rows:
            stored, sha256 = self.maps[row.file]
            found.append(_read(stored, self.space, row))
            if _hash(found[-1]) != sha256:
                raise RapbenchError(f"{stored.where} was changed since the run began; run again")
        return torch.stack(found)


class Heatmaps:
    """Heatmaps that were computed elsewhere, to go through the same protocols as a method's.

    Parameters
    ----------
    source : path, Tensor, array, or mapping of image names to these
        A folder with a .npy or .safetensors file per image; one .npy, .safetensors or .pt file; or tensors. A heatmap
        has the spatial dimensions of the model's inputs, one to three, or channels before them, over which relevance is
        summed. Heatmaps by name are matched to an image by its name in the data set, with or without its folder and
        ending, or by the SHA-256 of its file. A stack, (N, *space) or (N, C, *space), has one heatmap per image, in the
        order of the run's manifest.
    signs : sequence of {"positive", "negative"}, optional
        The signs to evaluate; by default those that any heatmap of the run's images has.

    Examples
    --------
    >>> rapbench.Heatmaps("their_maps")
    Heatmaps('their_maps')
    """

    def __init__(self, source: Any, *, signs: Sequence[Sign] | None = None):
        """Note what is named; nothing is read before it is matched."""
        self.source = source
        if signs is not None and (not signs or set(signs) - set(SIGNS)):
            raise RapbenchError(f"heatmaps: signs must be among {', '.join(SIGNS)}, got {list(signs)!r:.100}")
        self.signs = None if signs is None else tuple(sign for sign in SIGNS if sign in signs)

    def __repr__(self) -> str:
        """Return how it is written, without a tensor's numbers."""
        shown = str(self.source) if self._is_path else type(self.source).__name__
        return f"Heatmaps({shown!r})"

    @property
    def label(self) -> str:
        """What tables call them where they are given no label: the folder's or the file's name without its ending."""
        if not self._is_path:
            return "heatmaps"
        return re.sub(r"[^\w-]", "_", ENDING.sub("", os.path.basename(os.path.abspath(self._path)))) or "heatmaps"

    def check(self) -> None:
        """Raise RapbenchError where a path leads nowhere, or to another kind of file."""
        if self._is_path and not str(self.source):
            raise RapbenchError("heatmaps: name a folder or a file after the colon, as in heatmaps:their_maps")
        if not self._is_path or self._path.is_dir():
            return
        if not self._path.is_file():
            raise RapbenchError(f"heatmaps: {self._path} is neither a folder nor a file")
        if not ENDING.search(self._path.name):
            raise RapbenchError(f"heatmaps: {self._path} must be a folder, or a .npy, .safetensors or .pt file")

    def match(self, rows: "Sequence[Row]", space: Sequence[int], order: "Sequence[Row] | None" = None) -> Matched:
        """Find, read and check the heatmap of every image; none is kept in memory.

        Parameters
        ----------
        rows : sequence of manifest rows
            The images, each with its `file` and `sha256`.
        space : sequence of int
            The spatial dimensions of the model's inputs.
        order : sequence of manifest rows, optional
            All images that a stack has a heatmap for, in its order; `rows` by default.

        Raises
        ------
        RapbenchError
            For an image without a heatmap or with several, and a heatmap of another shape, another type, or with NaN.
        """
        from tqdm import tqdm

        space = tuple(space)
        digest, maps, signs = hashlib.sha256(repr(space).encode()), {}, set()
        matched = self._stored(rows, rows if order is None else order)
        pairs = zip(rows, matched, strict=True)
        for row, stored in tqdm(pairs, desc=f"heatmaps · {self.label}", total=len(matched), delay=2, leave=False):
            values = _read(stored, space, row)
            sha256 = _hash(values)
            maps[row.file] = (stored, sha256)
            digest.update(sha256.encode())
            signs |= {sign for sign, has in zip(SIGNS, ((values > 0).any(), (values < 0).any()), strict=True) if has}
        found = tuple(sign for sign in SIGNS if sign in signs) or ("positive",)
        return Matched(maps, space, self.signs or found, digest.hexdigest())

    @property
    def _is_path(self) -> bool:
        return isinstance(self.source, (str, Path))

    @property
    def _path(self) -> Path:
        try:
            return Path(self.source).expanduser()
        except RuntimeError:  # no home
            return Path(self.source)

    def _stored(self, rows: "Sequence[Row]", order: "Sequence[Row]") -> "list[Stored]":
        from rapbench.heatmaps.matching import by_name, in_folder, stacked
        from rapbench.heatmaps.stored import Stored, in_memory, open_stored

        if self._is_path:
            self.check()
            if self._path.is_dir():
                return in_folder(self._path, rows)
            found, where = open_stored(self._path), str(self._path)
        elif isinstance(self.source, Mapping):
            found, where = (
                {str(name): in_memory(value, f"heatmap {name!r}") for name, value in self.source.items()},
                "heatmaps",
            )
        else:
            found, where = in_memory(self.source, "heatmaps"), ""
        return stacked(found, rows, order) if isinstance(found, Stored) else by_name(where, found, rows, order)


def _read(stored: "Stored", space: tuple[int, ...], row: "Row") -> "Tensor":
    """Return a (*space) float32 heatmap, summed over channels as a method's is. Raises RapbenchError."""
    from rapbench.heatmaps.stored import MOST_AT_ONCE
    from rapbench.heatmaps.summed import heatmaps_of

    if stored.shape != space and (
        len(stored.shape) != len(space) + 1 or stored.shape[1:] != space or not stored.shape[0]
    ):
        raise RapbenchError(
            f"{stored.where} has shape {stored.shape}; the heatmap of {row.file} must have the input's, {space}, or "
            "channels before it"
        )
    size = stored.size
    for length in stored.shape:
        size *= length
    if size > MOST_AT_ONCE:
        raise RapbenchError(
            f"{stored.where} has {size:,} bytes; a heatmap of more than {MOST_AT_ONCE >> 20} MB is not read"
        )
    values = stored.read(None).contiguous()
    values = (values if stored.shape == space else heatmaps_of(values[None])[0]).float()
    if not values.isfinite().all():
        raise RapbenchError(f"{stored.where} has NaN or infinity, in the heatmap of {row.file}")
    return values


def _hash(values: "Tensor") -> str:
    return hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
