"""What removed pixels become."""

from typing import Literal

from torch import Tensor

from rapbench.core.errors import RapbenchError

Fill = Literal["image_min", "channel_min", "pixel_space_min", "mean", "zero"]
Normalisation = tuple[Tensor, Tensor]
MOMENTS = (
    "the mean and std of the model's channels, which are not known; state them: rapbench.Model(module, mean=, std=), "
    "model.mean= and model.std="
)
NORMALISED = ("pixel_space_min", "uniform")  # fills that need the mean and std of the channels


def fill_values(images: Tensor, fill: Fill, normalisation: Normalisation | None) -> Tensor:
    """Return the values of removed pixels.

    Parameters
    ----------
    images : Tensor, (P, C, *space)
        Preprocessed.
    fill : str
        image_min: the minimum of the preprocessed image. channel_min: the minimum of each channel. pixel_space_min: the
        image's darkest value before preprocessing. mean: the mean of each channel. zero: 0 in the network's input
        space.
    normalisation : (mean, std), optional
        Of the channels, for pixel values in 0..1; needed by pixel_space_min.

    Returns
    -------
    Tensor, (P, 1 or C, 1, ...)
    """
    image, channel = (tuple(range(first, images.dim())) for first in (1, 2))
    match fill:
        case "image_min":
            return images.amin(image, keepdim=True)
        case "channel_min":
            return images.amin(channel, keepdim=True)
        case "mean":
            return images.mean(channel, keepdim=True)
        case "zero":
            return images.new_zeros(len(images), *[1] * len(image))
    mean, std = moments(images, normalisation, fill)
    darkest = (images * std + mean).amin(image, keepdim=True)
    return (darkest - mean) / std


def moments(images: Tensor, normalisation: Normalisation | None, fill: str) -> Normalisation:
    """Return the channels' mean and deviation, (1, C, 1, ...), as `images`. Raises RapbenchError when not given."""
    if normalisation is None:
        raise RapbenchError(f"fill={fill} needs {MOMENTS}")
    mean, std = (values.to(images).view(1, -1, *[1] * (images.dim() - 2)) for values in normalisation)
    return mean, std
