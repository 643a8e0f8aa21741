"""Inputs and heatmaps as small pictures: of one spatial dimension a line, of three the central slices."""

import base64
import io
import math
from functools import cache

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WHITE = 255
SLICES = 64  # of a volume, at most, to scroll through
GAP = 2  # pixels between two slices
LINE_SIZE = (480, 240)  # pixels, of a picture of one spatial dimension
FINER = 2  # times, at which its line is drawn


def picture_of(image: NDArray[np.uint8]) -> Image.Image:
    """Return a (*space, 3) input as a picture."""
    if image.ndim == 2:
        return _line(image, np.full_like(image, WHITE))
    return Image.fromarray(planar(image, WHITE, colours=True))


def heatmap_of(values: NDArray[np.int8], image: NDArray[np.uint8], name: str = "seismic") -> Image.Image:
    """Return a (*space) map in -127..127 as a picture: red for positive, white for 0, blue for negative.

    Of one spatial dimension the colours stand behind the line of the (*space, 3) input.
    """
    places = values.astype(np.int16) + 128
    if values.ndim == 1:
        return _line(image, palette(name)[places])
    return _in_colours(planar(places.astype(np.uint8), 128), name)


def shown_slices(count: int) -> list[int]:
    """Return which of a volume's slices across the first dimension a page scrolls through: up to SLICES, evenly."""
    return list(range(0, count, math.ceil(count / SLICES)))


def slices_of(image: NDArray[np.uint8]) -> Image.Image:
    """Return the slices to scroll through of a (D, H, W, 3) input, one below the other."""
    return Image.fromarray(np.concatenate(image[shown_slices(len(image))]))


def heatmap_slices_of(values: NDArray[np.int8], name: str = "seismic") -> Image.Image:
    """Return the slices to scroll through of a (D, H, W) map in -127..127, one below the other, coloured."""
    places = (values[shown_slices(len(values))].astype(np.int16) + 128).astype(np.uint8)
    return _in_colours(np.concatenate(places), name)


def planar(values: NDArray[np.uint8], fill: int, *, colours: bool = False) -> NDArray[np.uint8]:
    """Return an (H, W) array as it is, of a (D, H, W) one the central slices side by side.

    The slices are across the first, the second and the third dimension; what they leave free is `fill`. colours: the
    last dimension of `values` is none of space.
    """
    if values.ndim - colours == 2:
        return values
    slices = [values.take(values.shape[axis] // 2, axis) for axis in range(3)]
    height, width = (max(part.shape[0] for part in slices), sum(part.shape[1] for part in slices) + 2 * GAP)
    sheet = np.full((height, width, *values.shape[3:]), fill, values.dtype)
    left = 0
    for part in slices:
        sheet[: part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + GAP
    return sheet


@cache
def palette(name: str = "seismic") -> NDArray[np.uint8]:
    """Return (256, 3) colours of -128..127 by a diverging map of matplotlib's; 0 is white in every one."""
    places = (np.arange(256) - 128) / 127  # the least of the 256 stays unused
    colours = matplotlib.colormaps[name]((places + 1) / 2, bytes=True)
    colours[128] = WHITE
    return colours[:, :3]


def address_of(picture: Image.Image) -> str:
    """Return a picture as a data address, a PNG."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _in_colours(places: NDArray[np.uint8], name: str) -> Image.Image:
    picture = Image.fromarray(places)
    picture.putpalette(palette(name).tobytes())
    return picture


def _line(signal: NDArray[np.uint8], ground: NDArray[np.uint8]) -> Image.Image:
    """Draw a (W, 3) input, the mean of its colours, as a line over (W, 3) colours behind it."""
    width, height = (FINER * side for side in LINE_SIZE)
    picture = Image.fromarray(ground[None]).resize((width, height), Image.Resampling.NEAREST)
    values = signal.mean(1)
    x = np.concatenate([[0], np.arange(len(values)) + 0.5, [len(values)]]) * width / len(values)
    y = height * (0.95 - 0.9 * np.concatenate([values[:1], values, values[-1:]]) / WHITE)
    ImageDraw.Draw(picture).line(list(zip(x.tolist(), y.tolist(), strict=True)), fill="black", width=2 * FINER)
    return picture.resize(LINE_SIZE, Image.Resampling.BOX)
