"""A few inputs with each method's heatmap, small enough for a page: what a run keeps to show."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from rapbench.core.errors import RapbenchError

FILE = "gallery.safetensors"
QUANTILE = 0.995  # of a map's absolute values: what lies above has the full colour


class About(TypedDict):
    """What the file says of its tensors."""

    identity: str
    files: list[str]
    labels: list[int]
    classes: list[str]
    methods: list[str]


@dataclass(frozen=True)
class Gallery:
    """A few inputs of a run with every method's heatmaps.

    Parameters
    ----------
    identity : str
        A hash of all that it depends on.
    files, labels : list
        Of the G inputs.
    classes : list of str
        A name for each class index; empty where they are not known.
    images : array, (G, *space, 3) uint8
        The inputs as the network sees them, in colours. One to three spatial dimensions.
    maps : dict of str to array, (G, *space) int8
        Relevance by method, -127..127, relative to each map; 0 is none.
    """

    identity: str
    files: list[str]
    labels: list[int]
    classes: list[str]
    images: NDArray[np.uint8]
    maps: dict[str, NDArray[np.int8]]

    def check(self) -> None:
        """Raise ValueError unless all parts are of the same inputs."""
        if self.images.ndim not in (3, 4, 5) or self.images.shape[-1] != 3:
            raise ValueError("its pictures have another layout")
        count, *space, _ = self.images.shape
        if not len(self.files) == len(self.labels) == count or 0 in self.images.shape:
            raise ValueError("its parts are not of the same images")
        parts = [(self.images, np.uint8, (count, *space, 3)),
                 *((maps, np.int8, (count, *space)) for maps in self.maps.values())]  # fmt: skip
        if any(values.dtype != kind or values.shape != shape for values, kind, shape in parts):
            raise ValueError("its pictures or maps have another layout")

    def save(self) -> bytes:
        """Return the bytes of a safetensors file, the same for the same gallery."""
        about = {"identity": self.identity, "files": self.files, "labels": self.labels, "classes": self.classes,
                 "methods": list(self.maps)}  # fmt: skip
        tensors: dict[str, NDArray[Any]] = {"images": self.images}
        tensors |= {f"map {number}": values for number, values in enumerate(self.maps.values())}
        return safetensors.numpy.save(tensors, {"gallery": json.dumps(about)})


def load_gallery(folder: Path) -> Gallery | None:
    """Return the gallery that a run left in its folder, or None. Raises RapbenchError for a file that is none."""
    path = folder / FILE
    if not path.exists():
        return None
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with safe_open(path, "numpy") as file:
            about = TypeAdapter(About).validate_json(file.metadata()["gallery"], strict=True)
            maps = {name: file.get_tensor(f"map {number}") for number, name in enumerate(about["methods"])}
            found = Gallery(
                about["identity"], about["files"], about["labels"], about["classes"], file.get_tensor("images"), maps
            )
        found.check()
        return found
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise RapbenchError(f"{path} is not a gallery that a run wrote; delete it, the same run writes it again"
                            ) from error  # fmt: skip


def quantised(heatmaps: NDArray[np.float32], quantile: float = QUANTILE) -> NDArray[np.int8]:
    """Return (G, *space) maps as -127..127, each relative to a quantile of its absolute values; 0 stays 0."""
    space = tuple(range(1, heatmaps.ndim))
    scale = np.quantile(np.abs(heatmaps), quantile, axis=space, keepdims=True)
    scale = np.where(scale > 0, scale, np.abs(heatmaps).max(space, keepdims=True))
    return np.rint(127 * np.clip(heatmaps / np.where(scale > 0, scale, 1), -1, 1)).astype(np.int8)
