"""How large relevance is, whatever its sign: shared by the protocols that measure the shape of a heatmap."""

import torch
from torch import Tensor

from rapbench.protocols.base.batch import Batch


def magnitudes(batch: Batch) -> Tensor:
    """Return the absolute values of each heatmap, ascending, over the largest; (N, n) float64, NaN for a zero map."""

    def compute() -> Tensor:
        ordered = batch.heatmaps.flatten(1).double().abs().sort(1).values
        return (ordered / ordered[:, -1:]).masked_fill(ordered[:, -1:] == 0, torch.nan)

    return batch.once(("magnitudes",), compute)


def total(rows: Tensor) -> Tensor:
    """Return the sum of each row, (N, n) -> (N,): a running sum does not depend on the batch, to the last bit."""
    return rows.cumsum(1)[:, -1]
