"""Region perturbation: square regions are replaced one after another, most or least relevant first, or at random.

Samek, Binder, Montavon, Lapuschkin, Müller: Evaluating the visualization of what a deep neural network has learned,
IEEE TNNLS 28(11), 2017. With x_k the image after k steps, AOPC is the mean over images of
1/(L+1) sum_{k=0..L} (f(x_0) - f(x_k)).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.functional import gaussian_blur

from rapbench.draws import random_keys, random_uniform
from rapbench.errors import RapbenchError
from rapbench.protocols import protocols
from rapbench.protocols._fills import Fill, Normalisation, fill_values, moments

ORDERS = ("morf", "lerf", "random")  # most relevant first, least relevant first, drawn
SIGMA = 3.0  # of the blur, in pixels
NEVER = torch.iinfo(torch.int32).max

RegionFill = Literal[Fill, "uniform", "blur"]
Output = Literal["logit", "probability"]


@dataclass(frozen=True)
class Regions:
    """Images with what replaces them and when; its size does not hang on the number of steps.

    images, fills: (N, C, H, W), before and after. turns: for each of ORDERS (N, 1, H, W) int32, the step at which each
    pixel is replaced, from 1; NEVER beside the regions.
    """

    images: Tensor
    fills: Tensor
    turns: dict[str, Tensor]
    output: Output

    def after(self, order: str, rows: list[int], steps: Tensor) -> Tensor:
        """Return (P, C, H, W): the images numbered `rows`, each after its (P,) steps in an order."""
        replaced = self.turns[order][rows] <= steps.view(-1, 1, 1, 1)
        return torch.where(replaced, self.fills[rows], self.images[rows])

    def score(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return f, (P,): the labels' logits, or their probabilities. logits: (P, classes). labels: (P,)."""
        values = logits.softmax(1) if self.output == "probability" else logits
        return values.gather(1, labels[:, None])[:, 0]


@protocols.register("regions", kind="regions", random=True)
def regions(
    images: Tensor,
    heatmaps: Tensor,
    seeds: Tensor,
    *,
    size: PositiveInt = 9,
    steps: PositiveInt = 100,
    fill: RegionFill = "uniform",
    output: Output = "logit",
    normalisation: Normalisation | None = None,
) -> Regions:
    """Return the images with the order in which their regions are replaced, and by what.

    images: (N, C, H, W) preprocessed. heatmaps: (N, H, W) relevance summed over channels; a region has the sum of its
    pixels'. seeds: (N,), on which the random order and the random values hang. size: of a square region in pixels; the
    regions lie in the middle, what is left over at the border is never replaced. steps: L, how many regions are
    replaced. fill: uniform, each pixel and channel drawn over the range of pixel values; blur, the image through a
    Gaussian of 3 pixels; or as in removal. output: f is the label's logit or its probability. normalisation: the
    (mean, std) of the channels for pixel values in 0..1, which `uniform` and `pixel_space_min` need.
    Raises RapbenchError when there are fewer regions than steps.
    """
    height, width = heatmaps.shape[1:]
    check_steps(steps, size, height, width)
    rows, columns = height // size, width // size
    top, left = (height - rows * size) // 2, (width - columns * size) // 2
    whole = heatmaps[:, top : top + rows * size, left : left + columns * size].double()
    relevance = whole.unflatten(2, (columns, size)).unflatten(1, (rows, size)).sum((2, 4)).flatten(1)
    drawn = random_keys(seeds, rows * columns)
    turns = {}
    for order, values in zip(ORDERS, (-relevance, relevance, drawn), strict=True):
        places = values.argsort(dim=1, stable=True).argsort(dim=1).int() + 1
        pixels = places.view(-1, 1, rows, columns).repeat_interleave(size, 2).repeat_interleave(size, 3)
        border = (left, width - left - columns * size, top, height - top - rows * size)
        turns[order] = pad(pixels, border, value=NEVER)
    return Regions(images, _fills(images, fill, seeds, rows * columns, normalisation), turns, output)


def check_steps(steps: int, size: int, height: int, width: int) -> None:
    """Raise RapbenchError when an image has fewer regions than are to be replaced; height, width: its own."""
    count = (height // size) * (width // size)
    if steps > count:
        raise RapbenchError(
            f"steps={steps} is more than there are regions: {height} x {width} pixels have {count} of {size} x {size}; "
            "take fewer steps or a smaller size"
        )


def _fills(images: Tensor, fill: RegionFill, seeds: Tensor, skip: int, normalisation: Normalisation | None) -> Tensor:
    """Return the images with everything replaced; the first `skip` draws of each seed are taken already."""
    if fill == "blur":
        return gaussian_blur(images, [2 * round(4 * SIGMA) + 1] * 2, [SIGMA] * 2)
    if fill == "uniform":
        mean, std = moments(images, normalisation, fill)
        drawn = random_uniform(seeds, skip + images[0].numel())[:, skip:].to(images.dtype)
        return ((drawn + 1) / 2).view(images.shape).sub(mean).div(std).to(memory_format=torch.channels_last)
    return fill_values(images, fill, normalisation).expand_as(images)
