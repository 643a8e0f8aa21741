"""What all of an image becomes where it is replaced bit by bit: one value, draws, or the image blurred."""

from typing import Literal

from torch import Tensor

from rapbench.core.memory_format import channels_last
from rapbench.core.random import random_uniform
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.blur import gaussian_blur
from rapbench.protocols.base.fills import Fill, Normalisation, fill_values, moments

WholeFill = Literal[Fill, "uniform", "blur"]
SIGMA = 3.0  # of the blur, in pixels


def replaced(
    images: Tensor,
    fill: WholeFill,
    seeds: Tensor,
    skip: int = 0,
    normalisation: Normalisation | None = None,
) -> Tensor:
    """Return the images with everything replaced, (N, C, *space).

    Parameters
    ----------
    images : Tensor, (N, C, *space)
        Preprocessed.
    fill : str
        uniform: each pixel and channel is drawn from the range of pixel values. blur: the image blurred by a Gaussian
        with a standard deviation of 3 pixels. Others as in `fill_values`.
    seeds : Tensor, (N,)
        Of the uniform draws.
    skip : int
        How many draws of each seed are taken already.
    normalisation : (mean, std), optional
        Of the channels, for pixel values in 0..1; needed by `uniform` and `pixel_space_min`.
    """
    if fill == "blur":
        return gaussian_blur(images, SIGMA)
    if fill == "uniform":
        mean, std = moments(images, normalisation, fill)
        drawn = random_uniform(seeds, skip + images[0].numel())[:, skip:].to(images.dtype)
        return channels_last(((drawn + 1) / 2).view(images.shape).sub(mean).div(std))
    return fill_values(images, fill, normalisation).expand_as(images)


def filled(batch: Batch, fill: WholeFill) -> Tensor:
    """Return a batch's inputs with everything replaced, (N, C, *space), one draw of it for all methods."""
    name = ("filled", batch.seed, fill)
    seeds = batch.seeds("pixels")
    return batch.for_every_method(name, lambda: replaced(batch.inputs, fill, seeds, normalisation=batch.normalisation))
