"""Region perturbation: regions are replaced one after another, most or least relevant first, or at random.

Samek, Binder, Montavon, Lapuschkin, Müller: Evaluating the visualization of what a deep neural network has learned,
IEEE TNNLS 28(11), 2017. With x_k the image after k steps, AOPC is the mean over images of
1/(L+1) sum_{k=0..L} (f(x_0) - f(x_k)).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor
from torch.nn.functional import pad

from rapbench.core.errors import RapbenchError
from rapbench.core.random import random_keys
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import OUTPUTS, Answers, Batch, Output, Step
from rapbench.protocols.base.fills import NORMALISED, Normalisation
from rapbench.protocols.base.metric import Better, Metric
from rapbench.protocols.base.protocol import Protocol
from rapbench.protocols.base.whole_fills import WholeFill, replaced

ORDERS = ("morf", "lerf", "random")  # most relevant first, least relevant first, drawn
BETTER: dict[str, Better] = {"morf": "lower", "lerf": "higher"}  # of f
NEVER = torch.iinfo(torch.int32).max


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
    fill: WholeFill = "uniform"
    output: Output = "logit"

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """f, and what is predicted."""
        return (
            Metric("predicted", title="predicted class", kind="count", decimals=0, detail=True),
            Metric("accuracy", BETTER, unit="%", kind="share", decimals=1, detail=True),
            Metric(self.output, BETTER, title=OUTPUTS[self.output], decimals=3),
        )

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the steps 0 to L of each order, whatever the signs: a region has the sum over both."""
        return {order: list(range(self.steps + 1)) for order in ORDERS}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return predicted, accuracy (0 or 1) and f, (N, L + 1) each."""
        answers = self.answers(batch, variant)
        return {"predicted": answers.predicted, "accuracy": answers.correct, self.output: answers.of(self.output)}

    def answers(self, batch: Batch, order: str) -> Answers:
        """Return what the model says after 0 to L steps of an order; asked once, whoever asks for it."""
        known, steps = ("regions", self.size, self.steps, self.fill), list(range(self.steps + 1))

        def made() -> Regions:
            seeds = batch.seeds("regions")
            return regions(batch.inputs, batch.heatmaps, seeds, size=self.size, steps=self.steps, fill=self.fill,
                           normalisation=batch.normalisation)  # fmt: skip

        def asked() -> Answers:
            turns = batch.once(known, made)
            counts = batch.for_every_method(("counts", *steps), lambda: torch.tensor(steps, device=batch.inputs.device))
            return batch.ask(lambda rows, columns: turns.after(order, rows, counts[columns]), steps)

        return batch.once((*known, order), asked)

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
    fill: WholeFill = "uniform",
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
    return Regions(images, replaced(images, fill, seeds, math.prod(counts), normalisation), turns)


def check_steps(steps: int, size: int, space: Sequence[int]) -> None:
    """Raise RapbenchError when an image has fewer regions than are to be replaced; space: its shape."""
    count = math.prod(length // size for length in space)
    if steps > count:
        whole, region = " x ".join(map(str, space)), " x ".join([str(size)] * len(space))
        raise RapbenchError(
            f"steps={steps} is more than there are regions: {whole} pixels have {count} of {region}; "
            "take fewer steps or a smaller size"
        )
