"""Region perturbation: regions are replaced one after another, most or least relevant first, or at random.

Samek, Binder, Montavon, Lapuschkin, Müller: Evaluating the visualization of what a deep neural network has learned,
IEEE TNNLS 28(11), 2017. With x_k the image after k steps, AOPC is the mean over images of
1/(L+1) sum_{k=0..L} (f(x_0) - f(x_k)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import conv1d, pad

from rapbench.core.errors import RapbenchError
from rapbench.core.memory_format import channels_last
from rapbench.core.random import random_keys, random_uniform
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.fills import NORMALISED, Fill, Normalisation, fill_values, moments
from rapbench.protocols.base.metric import Better, Metric
from rapbench.protocols.base.protocol import Protocol

ORDERS = ("morf", "lerf", "random")  # most relevant first, least relevant first, drawn
BETTER: dict[str, Better] = {"morf": "lower", "lerf": "higher"}  # of f
SIGMA = 3.0  # of the blur, in pixels
NEVER = torch.iinfo(torch.int32).max

RegionFill = Literal[Fill, "uniform", "blur"]
Output = Literal["logit", "probability"]


@dataclass(frozen=True)
class Regions:
    """Images with the values that replace their regions, and the steps at which they do.

    Attributes
    ----------
    images, fills : Tensor, (N, C, *space)
        Values before and after replacement.
    turns : dict of Tensor, (N, 1, *space) int32
        For each of ORDERS the step at which each pixel is replaced, from 1 on; NEVER outside the regions.
    """

    images: Tensor
    fills: Tensor
    turns: dict[str, Tensor]

    def after(self, order: str, rows: Tensor, steps: Tensor) -> Tensor:
        """Return (P, C, *space): the images numbered `rows`, (P,), each after its (P,) steps in an order."""
        replaced = self.turns[order][rows] <= steps.view(-1, *[1] * (self.images.dim() - 1))
        return torch.where(replaced, self.fills[rows], self.images[rows])


@protocols.register("regions")
@dataclass(frozen=True, kw_only=True)
class RegionPerturbation(Protocol):
    """Region perturbation [samek2017evaluating]: square regions are replaced one after another, in three orders.

    Parameters
    ----------
    size : int
        Side of a region, in pixels.
    steps : int
        L, the number of regions that are replaced.
    fill : str
        The replacing values, see `regions`.
    output : {"logit", "probability"}
        f, the network's output for the label.
    """

    table: ClassVar[str] = "region perturbation"
    step_name: ClassVar[str] = "regions replaced"

    size: PositiveInt = 9
    steps: PositiveInt = 100
    fill: RegionFill = "uniform"
    output: Output = "logit"

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """f, and what is predicted."""
        title = {"logit": "target logit", "probability": "probability of the target"}[self.output]
        return (
            Metric("predicted", title="predicted class", kind="count", decimals=0, detail=True),
            Metric("accuracy", BETTER, unit="%", kind="share", decimals=1, detail=True),
            Metric(self.output, BETTER, title=title, decimals=3),
        )

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the steps 0 to L of each order, whatever the signs: a region has the sum over both."""
        return {order: list(range(self.steps + 1)) for order in ORDERS}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return predicted, accuracy (0 or 1) and f, (N, L + 1) each."""
        made = batch.once(self, lambda: self.made(batch))
        counts = batch.for_every_method(("counts", *steps), lambda: torch.tensor(steps, device=batch.inputs.device))
        answers = batch.ask(lambda rows, columns: made.after(variant, rows, counts[columns]), steps)
        values = answers.probability if self.output == "probability" else answers.logit
        return {"predicted": answers.predicted, "accuracy": answers.correct, self.output: values}

    def made(self, batch: Batch) -> "Regions":
        """Return the batch's images with what replaces their regions, and when."""
        seeds = batch.seeds("regions")
        return regions(batch.inputs, batch.heatmaps, seeds, size=self.size, steps=self.steps, fill=self.fill,
                       normalisation=batch.normalisation)  # fmt: skip

    @property
    def needs_normalisation(self) -> bool:
        """Whether the fill does."""
        return self.fill in NORMALISED

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError when inputs have fewer regions than are to be replaced."""
        check_steps(self.steps, self.size, space)


def regions(
    images: Tensor,
    heatmaps: Tensor,
    seeds: Tensor,
    *,
    size: PositiveInt = 9,
    steps: PositiveInt = 100,
    fill: RegionFill = "uniform",
    normalisation: Normalisation | None = None,
) -> Regions:
    """Return the images with the orders in which their regions are replaced, and the replacing values.

    The regions are centred. The remaining border is never replaced.

    Parameters
    ----------
    images : Tensor, (N, C, *space)
        Preprocessed.
    heatmaps : Tensor, (N, *space)
        Relevance summed over channels. A region's relevance is the sum over its pixels.
    seeds : Tensor, (N,)
        They seed the random order and the random values.
    size : int
        Side of a region in pixels, along every dimension.
    steps : int
        L, the number of regions that are replaced.
    fill : str
        uniform: each pixel and channel is drawn from the range of pixel values. blur: the image blurred by a Gaussian
        with a standard deviation of 3 pixels. Others as in removal.
    normalisation : (mean, std), optional
        Of the channels, for pixel values in 0..1; needed by `uniform` and `pixel_space_min`.

    Returns
    -------
    Regions

    Raises
    ------
    RapbenchError
        If there are fewer regions than steps.
    """
    space = heatmaps.shape[1:]
    check_steps(steps, size, space)
    counts = [length // size for length in space]
    border: list[int] = []  # before and after each dimension, the last one first
    whole = heatmaps.double()
    for axis, (length, count) in reversed(list(enumerate(zip(space, counts, strict=True), start=1))):
        before = (length - count * size) // 2
        border += [before, length - before - count * size]
        whole = whole.narrow(axis, before, count * size).unflatten(axis, (count, size))
    relevance = whole.sum(tuple(range(2, whole.dim(), 2))).flatten(1)
    drawn = random_keys(seeds, math.prod(counts))
    turns = {}
    for order, values in zip(ORDERS, (-relevance, relevance, drawn), strict=True):
        pixels = (values.argsort(dim=1, stable=True).argsort(dim=1).int() + 1).view(-1, 1, *counts)
        for axis in range(2, pixels.dim()):
            pixels = pixels.repeat_interleave(size, axis)
        turns[order] = pad(pixels, border, value=NEVER)
    return Regions(images, _fills(images, fill, seeds, math.prod(counts), normalisation), turns)


def check_steps(steps: int, size: int, space: Sequence[int]) -> None:
    """Raise RapbenchError when an image has fewer regions than are to be replaced; space: its shape."""
    count = math.prod(length // size for length in space)
    if steps > count:
        whole, region = " x ".join(map(str, space)), " x ".join([str(size)] * len(space))
        raise RapbenchError(
            f"steps={steps} is more than there are regions: {whole} pixels have {count} of {region}; "
            "take fewer steps or a smaller size"
        )


def _fills(images: Tensor, fill: RegionFill, seeds: Tensor, skip: int, normalisation: Normalisation | None) -> Tensor:
    """Return the images with everything replaced; the first `skip` draws of each seed are taken already."""
    if fill == "blur":
        return gaussian_blur(images, SIGMA)
    if fill == "uniform":
        mean, std = moments(images, normalisation, fill)
        drawn = random_uniform(seeds, skip + images[0].numel())[:, skip:].to(images.dtype)
        return channels_last(((drawn + 1) / 2).view(images.shape).sub(mean).div(std))
    return fill_values(images, fill, normalisation).expand_as(images)


def gaussian_blur(images: Tensor, sigma: float) -> Tensor:
    """Return the images blurred by a Gaussian along every spatial dimension.

    Parameters
    ----------
    images : Tensor, (N, C, *space)
        Mirrored beyond the border, several times if needed.
    sigma : float
        Standard deviation in pixels. The kernel is cut off at 4 sigma.

    Returns
    -------
    Tensor, (N, C, *space)
    """
    reach = round(4 * sigma)
    places = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (places / sigma) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, -1)
    for axis in range(2, images.dim()):
        lines = images.movedim(axis, -1)
        mirrored = lines[..., _mirrored(lines.shape[-1], reach, images.device)]
        blurred = conv1d(mirrored.reshape(-1, 1, mirrored.shape[-1]), kernel)
        images = blurred.view(lines.shape).movedim(-1, axis)
    return images


def _mirrored(length: int, reach: int, device: torch.device) -> Tensor:
    """Return the places 0 to length - 1 with `reach` more at each end, mirrored at the first and the last."""
    period = max(1, 2 * (length - 1))
    places = torch.arange(-reach, length + reach, device=device) % period
    return torch.where(places < length, places, period - places)
