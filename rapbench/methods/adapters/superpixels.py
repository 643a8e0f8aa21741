"""Images cut into regions that are kept or replaced as a whole."""

import math
from typing import Literal

import numpy as np
import torch
from skimage.segmentation import slic
from torch import Tensor

from rapbench.core.errors import RapbenchError

Regions = Literal["auto", "slic", "grid"]


def regions_of(image: Tensor, count: int, kind: Regions) -> Tensor:
    """Return the number of each pixel's region, from 0 without gaps, shaped like the image, the same in each channel.

    Parameters
    ----------
    image : Tensor, (1, C, *space) or (1, D)
        Preprocessed.
    count : int
        About how many regions.
    kind : str
        "slic": superpixels [achanta2012slic] of the image, smoothed, each channel scaled to [0, 1]. "grid": boxes of
        about the same size. "auto": superpixels for images of two dimensions and three channels, else boxes.

    Returns
    -------
    Tensor, shaped like `image`, int64

    Raises
    ------
    RapbenchError
        For superpixels of what has neither two nor three dimensions, and where there is one region only.
    """
    space = tuple(image.shape[2:]) or tuple(image.shape[1:])
    if kind == "auto":
        kind = "slic" if image.dim() == 4 and image.shape[1] == 3 else "grid"
    if kind == "slic" and image.dim() not in (4, 5):
        raise RapbenchError(
            f"superpixels need images of two or three dimensions, got inputs of shape {tuple(image.shape)}; "
            "set regions=grid"
        )
    labels = _superpixels(image[0], count) if kind == "slic" else _boxes(space, count)
    numbers = np.unique(labels, return_inverse=True)[1].reshape(space)
    if not numbers.any():
        raise RapbenchError(f"all of an image is one region of {space}; set regions=grid, or segments to more")
    return torch.from_numpy(numbers).to(image.device, torch.int64).expand_as(image).contiguous()


def _superpixels(image: Tensor, count: int) -> np.ndarray:
    """Return SLIC's labels, (*space); image: (C, *space)."""
    channels = image.detach().double().flatten(1)
    least, most = channels.amin(1, keepdim=True), channels.amax(1, keepdim=True)
    scaled = ((channels - least) / (most - least).clamp(min=1e-12)).view(image.shape)
    found: np.ndarray = slic(scaled.cpu().numpy(), n_segments=count, channel_axis=0, start_label=0, sigma=1)
    return found


def _boxes(space: tuple[int, ...], count: int) -> np.ndarray:
    """Return the labels of boxes, (*space), about as many along each dimension."""
    sides = [min(size, max(1, round(count ** (1 / len(space))))) for size in space]
    along = [np.arange(size) * side // size for size, side in zip(space, sides, strict=True)]
    grid = np.meshgrid(*along, indexing="ij")
    strides = [math.prod(sides[place + 1 :]) for place in range(len(sides))]
    return np.asarray(sum(part * stride for part, stride in zip(grid, strides, strict=True)))
