"""Infidelity: how far the relevance of what is perturbed lies from what the output loses."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from rapbench.core.random import normal_at
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Answers, Batch, Output
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.random_subsets import blocks
from rapbench.protocols.base.single import Single


@protocols.register("infidelity")
@dataclass(frozen=True, kw_only=True)
class Infidelity(Single):
    """Infidelity [yeh2019fidelity]: the mean of (beta I.R - (f(x) - f(x - I)))^2 over perturbations I.

    I is Gaussian noise, one number a pixel, equal in all channels: I.R is then exact for relevance summed over
    channels. beta scales each heatmap optimally, mean((I.R) (f(x) - f(x - I))) / mean((I.R)^2), so that heatmaps of any
    scale can be compared. Not defined (NaN) for a heatmap of zeros.

    Parameters
    ----------
    noise : float
        Standard deviation, as a share of the image's range.
    draws : int
        Perturbations.
    output : {"logit", "probability"}
        f, of the label.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("infidelity", {"": "lower"}, title="mean squared error of the output lost", axis=None, decimals=4),
    )

    noise: PositiveFloat = 0.2
    draws: PositiveInt = 50
    output: Output = "logit"

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the error, (N,) float64."""
        name = ("without noise", batch.seed, self.noise, self.draws)
        found = batch.for_every_method(name, lambda: self._without(batch)).of(self.output).double()
        lost, told = found[:, :1] - found[:, 1:], self._told(batch)
        squares = told.square().sum(1, keepdim=True)
        beta = (told * lost).sum(1, keepdim=True) / squares
        error = (beta * told - lost).square().mean(1)
        return {"infidelity": error.masked_fill(squares[:, 0] == 0, torch.nan)}

    def asked_once(self) -> int:
        """Return the number of perturbations."""
        return self.draws

    def perturbations(self, batch: Batch, rows: Tensor, index: Tensor) -> Tensor:
        """Return I, (P, n), in the inputs' precision, of rows of the batch, (P,); index: places of numbers, (P, n)."""
        inputs = batch.inputs.flatten(1)
        scale = batch.for_every_method(("range",), lambda: inputs.amax(1) - inputs.amin(1))
        drawn = normal_at(batch.seeds("infidelity")[rows], index)
        return (drawn * self.noise * scale[rows].double()[:, None]).to(inputs.dtype)

    def _told(self, batch: Batch) -> Tensor:
        """Return I.R, (N, draws) float64, input by input: a sum's last bit may depend on what stands beside it."""
        relevance, device = batch.heatmaps.flatten(1).double(), batch.inputs.device
        told = torch.empty(len(relevance), self.draws, dtype=torch.float64, device=device)
        for row, values in enumerate(relevance):
            for start, index in blocks(self.draws, len(values), device):
                rows = torch.full((len(index),), row, device=device)
                told[row, start : start + len(index)] = (self.perturbations(batch, rows, index) * values).sum(1)
        return told

    def _without(self, batch: Batch) -> Answers:
        """Return what the model says of the inputs and of x - I for each I."""
        pixels = torch.arange(batch.heatmaps[0].numel(), device=batch.inputs.device)

        def changed(rows: Tensor, columns: Tensor) -> Tensor:
            index = (columns[:, None] - 1) * len(pixels) + pixels
            noise = self.perturbations(batch, rows, index)
            return batch.inputs[rows] - noise.view(-1, 1, *batch.heatmaps.shape[1:])

        return batch.ask(changed, range(self.draws + 1))
