"""Sparseness: how far the relevance lies on few pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.magnitudes import magnitudes, total
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.single import Single


@protocols.register("sparseness")
@dataclass(frozen=True, kw_only=True)
class Sparseness(Single):
    """Sparseness [chalasani2020concise]: the Gini index of the absolute values of relevance.

    sum_i (2i - n - 1) a_i / (n sum_i a_i), a_1 to a_n ascending: 0 if all pixels have the same, 1 - 1/n if one has all.
    Not defined (NaN) for a heatmap of zeros.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("sparseness", {"": "higher"}, title="Gini index", axis=None, decimals=3),
    )

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the index, (N,) float64."""
        ordered = magnitudes(batch)
        pixels = ordered.shape[1]
        # The i-th largest against the i-th smallest: no term is negative, and those of equal values are exactly 0.
        half = pixels // 2
        spread = ordered.flip(1)[:, :half] - ordered[:, :half]
        weights = pixels - 1 - 2 * torch.arange(half, device=ordered.device)
        uneven = total(spread * weights) if half else torch.zeros_like(ordered[:, 0])
        return {"sparseness": uneven / (pixels * total(ordered))}
