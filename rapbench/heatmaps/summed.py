"""From relevance to a heatmap: the sum over channels."""

import torch
from torch import Tensor


def heatmaps_of(relevance: Tensor) -> Tensor:
    """Return (N, *space) relevance summed over channels; relevance: (N, C, *space)."""
    return torch.sum(relevance, dim=1)
