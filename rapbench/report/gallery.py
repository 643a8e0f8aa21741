"""A few images with each method's heatmap, small enough for a page: what a run keeps to show."""

import base64
import io
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import matplotlib
import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from PIL import Image
from pydantic import TypeAdapter
from safetensors import SafetensorError, safe_open
from typing_extensions import TypedDict

from rapbench.errors import RapbenchError

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
    """images: (G, H, W, 3) uint8, as the network sees them. maps: for each method (G, H, W) int8, -127..127.

    identity: what all of it depends on. files, labels: of the images. classes: a name for each class index, or empty.
    """

    identity: str
    files: list[str]
    labels: list[int]
    classes: list[str]
    images: NDArray[np.uint8]
    maps: dict[str, NDArray[np.int8]]

    def check(self) -> None:
        """Raise ValueError unless all parts are of the same images."""
        count, *size, colours = self.images.shape
        parts = [
            (self.images, np.uint8, (count, *size, 3)),
            *((maps, np.int8, (count, *size)) for maps in self.maps.values()),
        ]
        if not len(self.files) == len(self.labels) == count or colours != 3 or len(size) != 2 or 0 in self.images.shape:
            raise ValueError("its parts are not of the same images")
        if any(values.dtype != kind or values.shape != shape for values, kind, shape in parts):
            raise ValueError("its pictures or maps have another layout")

    def save(self) -> bytes:
        """Return the bytes of a safetensors file, the same for the same gallery."""
        about = {"identity": self.identity, "files": self.files, "labels": self.labels, "classes": self.classes,
                 "methods": list(self.maps)}  # fmt: skip
        tensors: dict[str, NDArray] = {"images": self.images}
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
    """Return (G, H, W) maps as -127..127, each relative to a quantile of its absolute values; 0 stays 0."""
    scale = np.quantile(np.abs(heatmaps), quantile, axis=(1, 2), keepdims=True)
    scale = np.where(scale > 0, scale, np.abs(heatmaps).max((1, 2), keepdims=True))
    return np.rint(127 * np.clip(heatmaps / np.where(scale > 0, scale, 1), -1, 1)).astype(np.int8)


def picture_png(image: NDArray[np.uint8]) -> str:
    """Return an (H, W, 3) image as a data address."""
    return _address(Image.fromarray(image))


def heatmap_png(values: NDArray[np.int8]) -> str:
    """Return an (H, W) map as a data address: seismic, red for positive, white for 0, blue for negative."""
    picture = Image.fromarray((values.astype(np.int16) + 128).astype(np.uint8))
    picture.putpalette(palette().tobytes())
    return _address(picture)


@cache
def palette(name: str = "seismic") -> NDArray[np.uint8]:
    """Return (256, 3) colours of -128..127 by a diverging map of matplotlib's; 0 is white in every one."""
    places = (np.arange(256) - 128) / 127  # the least of the 256 stays unused
    colours = matplotlib.colormaps[name]((places + 1) / 2, bytes=True)
    colours[128] = 255
    return colours[:, :3]


def _address(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
