"""Removal: every channel of the selected pixels becomes one value (the paper's Table I)."""

from typing import Literal

from torch import Tensor

from rapbench.errors import RapbenchError
from rapbench.protocols import protocols
from rapbench.protocols._pixels import ranked_pixels

Fill = Literal["image_min", "channel_min", "pixel_space_min", "mean", "zero"]


@protocols.register("removal", kind="perturbation")
def removal(
    images: Tensor,
    order: Tensor,
    counts: Tensor,
    seeds: Tensor,
    *,
    fill: Fill = "image_min",
    normalisation: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Return the images with each one's first `counts` pixels of `order` filled.

    images: (P, C, H, W) preprocessed. order: (P, n) positions by rank, n at least the largest count. counts, seeds:
    (P,). normalisation: the (mean, std) of the channels, which `pixel_space_min` needs.
    """
    pixels = ranked_pixels(images, order, counts)
    fills = fill_values(images, fill, normalisation).flatten(1)[:, None]
    pixels.rows[pixels.places] = fills.expand(*pixels.places.shape, images.shape[1])
    return pixels.images()


def fill_values(images: Tensor, fill: Fill, normalisation: tuple[Tensor, Tensor] | None) -> Tensor:
    """Return what removed pixels become, (P, 1 or C, 1, 1).

    image_min: the scalar minimum of the preprocessed tensor. channel_min: each channel's. pixel_space_min: the image's
    darkest value before preprocessing. mean: each channel's mean. zero: 0 in the network's input space.
    """
    match fill:
        case "image_min":
            return images.amin((1, 2, 3), keepdim=True)
        case "channel_min":
            return images.amin((2, 3), keepdim=True)
        case "mean":
            return images.mean((2, 3), keepdim=True)
        case "zero":
            return images.new_zeros(len(images), 1, 1, 1)
    if normalisation is None:
        raise RapbenchError("fill=pixel_space_min needs the model's channel means and deviations")
    mean, std = (values.to(images).view(1, -1, 1, 1) for values in normalisation)
    darkest = (images * std + mean).amin((1, 2, 3), keepdim=True)
    return (darkest - mean) / std
