"""Random subsets of the pixels: what the output loses when a subset is replaced, against the relevance in it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.random import keys_at
from rapbench.protocols.base.batch import Answers, Batch, Output
from rapbench.protocols.base.similarity import pearson
from rapbench.protocols.base.whole_fills import WholeFill, filled

BLOCK = 2**21  # numbers that are computed at a time


@dataclass(frozen=True)
class Subsets:
    """Subsets of the pixels of N inputs, of each size so many.

    Each draw is a random order of the pixels, whose first ones are the subset of each size.

    Attributes
    ----------
    sizes : sequence of int
        Numbers of pixels, ascending.
    first : Tensor, (N, draws, n) uint8
        The place among the sizes of the first one whose subset has the pixel; beyond the last for a pixel in none.
    """

    sizes: Sequence[int]
    first: Tensor

    def sums(self, heatmaps: Tensor) -> Tensor:
        """Return the relevance in each subset, (N, sizes, draws) float64; heatmaps: (N, *space)."""
        relevance = heatmaps.flatten(1).double()
        count = len(self.sizes)
        # Input by input: the order of a sum, and with it its last bit, may depend on how many stand side by side.
        return torch.stack([
            torch.cat([
                torch.stack([torch.where(part <= place, values, 0).sum(1) for place in range(count)])
                for part in first.split(per_block(len(values)))
            ], 1)
            for first, values in zip(self.first, relevance, strict=True)
        ])  # fmt: skip


def correlations(batch: Batch, sizes: Sequence[int], draws: int, fill: WholeFill, output: Output) -> Tensor:
    """Return Pearson's correlation of relevance in a subset and what the output loses without it, (N, sizes) float64.

    The model is asked once for the heatmaps of all methods. NaN where either is the same for all subsets.

    Parameters
    ----------
    batch : Batch
    sizes : sequence of int
        Numbers of pixels, ascending.
    draws : int
        Subsets of each size.
    fill : str
        What pixels become, see `replaced`.
    output : {"logit", "probability"}
        Of the label.
    """
    name = (batch.seed, tuple(sizes), draws)
    subsets = batch.for_every_method(("subsets", *name), lambda: random_subsets(batch, sizes, draws))
    answers = batch.for_every_method(("without subsets", *name, fill), lambda: _without(batch, subsets, fill))
    found = answers.of(output).double()
    lost = (found[:, :1] - found[:, 1:]).unflatten(1, (len(sizes), draws))
    pairs = zip(subsets.sums(batch.heatmaps), lost, strict=True)
    return torch.stack([pearson(sums, drops) for sums, drops in pairs])


def random_subsets(batch: Batch, sizes: Sequence[int], draws: int) -> Subsets:
    """Return subsets that depend on the run's seed and the input alone; more draws begin with fewer.

    Within an input no two keys are equal, as splitmix64 is a bijection: the subsets have their sizes exactly, and all
    of one size are equally likely.
    """
    pixels, seeds = batch.heatmaps[0].numel(), batch.seeds("subsets")
    places = [size - 1 for size in sizes]
    first = torch.empty(len(seeds), draws, pixels, dtype=torch.uint8, device=seeds.device)
    for row in range(len(seeds)):
        for start, index in blocks(draws, pixels, seeds.device):
            keys = keys_at(seeds[row : row + 1], index.flatten()[None]).view(index.shape)
            ordered = keys.sort(1).values
            last = torch.stack([ordered[:, place] for place in places], 1)
            first[row, start : start + len(index)] = torch.searchsorted(last, keys)
    return Subsets(sizes, first)


def blocks(draws: int, pixels: int, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Yield the places of an input's random numbers, (some draws, n), with the first draw's number."""
    for start in range(0, draws, per_block(pixels)):
        some = torch.arange(start, min(start + per_block(pixels), draws), device=device)
        yield start, some[:, None] * pixels + torch.arange(pixels, device=device)


def per_block(pixels: int) -> int:
    """Return how many rows of numbers, one a pixel, are computed at a time."""
    return max(1, BLOCK // pixels)


def check_sizes(name: str, sizes: Sequence[int], space: Sequence[int]) -> None:
    """Raise RapbenchError where subsets of so many pixels have no choice or do not ascend; name: the option's."""
    pixels = math.prod(space)
    for number, size in enumerate(sizes):
        least = sizes[number - 1] + 1 if number else 1
        if not least <= size < pixels:
            shape = " x ".join(map(str, space))
            said = f"{size} pixels after {least - 1}" if number else f"{size} pixels"
            raise RapbenchError(f"{name} must ascend from 1 to less than all pixels, got {said} of {shape}")


def check_draws(draws: int) -> None:
    """Raise RapbenchError for too few subsets to correlate."""
    if draws < 2:
        raise RapbenchError(f"draws={draws}: a correlation needs two subsets or more")


def _without(batch: Batch, subsets: Subsets, fill: WholeFill) -> Answers:
    """Return what the model says of the inputs, and of them with each subset replaced, size by size."""
    instead = filled(batch, fill)
    draws = subsets.first.shape[1]

    def changed(rows: Tensor, columns: Tensor) -> Tensor:
        subset = columns - 1
        place = torch.div(subset, draws, rounding_mode="floor")
        there = subsets.first[rows, subset.remainder(draws)] <= place[:, None]
        return torch.where(there.view(-1, 1, *batch.heatmaps.shape[1:]), instead[rows], batch.inputs[rows])

    return batch.ask(changed, range(len(subsets.sizes) * draws + 1))
