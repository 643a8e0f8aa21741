"""Max-sensitivity: how far a heatmap moves, at most, when its input moves a little."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor

from rapbench.core.random import random_uniform
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.single import Single


@protocols.register("max_sensitivity")
@dataclass(frozen=True, kw_only=True)
class MaxSensitivity(Single):
    """Max-sensitivity [yeh2019fidelity]: the largest relative change of the heatmap among draws of nearby inputs.

    Parameters
    ----------
    radius : float
        How far each element of the input is moved at most, as a share of the image's range.
    draws : int
        Inputs that are drawn, uniformly.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("max_sensitivity", {"": "lower"}, title="largest relative change", axis=None, decimals=3),
    )

    radius: PositiveFloat = 0.02
    draws: PositiveInt = 10

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the largest change, (N,) float64, NaN for a heatmap of zeros."""
        own = batch.heatmaps.flatten(1).double()
        changes = []
        for draw in range(self.draws):
            # A nearby input is another one: a method's random numbers are others, too.
            ids = [f"{name} {draw}" for name in batch.ids]
            near = batch.attribute(inputs=self._near(batch, draw), ids=ids)
            changes.append((near.flatten(1).double() - own).square().sum(1).sqrt())
        norm = own.square().sum(1).sqrt()
        return {"max_sensitivity": (torch.stack(changes).amax(0) / norm).masked_fill(norm == 0, torch.nan)}

    def recomputed(self) -> int:
        """Return the number of draws."""
        return self.draws

    def _near(self, batch: Batch, draw: int) -> Tensor:
        """Return the inputs of a draw, (N, C, *space), equal for all methods."""

        def compute() -> Tensor:
            inputs = batch.inputs
            low, high = (extreme(inputs.flatten(1), 1) for extreme in (torch.amin, torch.amax))
            reach = (self.radius * (high - low)).view(-1, *[1] * (inputs.dim() - 1))
            noise = random_uniform(batch.seeds("max_sensitivity", str(draw)), inputs[0].numel()).to(inputs.dtype)
            return inputs + reach * noise.view(inputs.shape)

        return batch.for_every_method(("near", batch.seed, self.radius, draw), compute)
