"""Heatmaps in the number format in which they are kept: rankings are made from what can be read back."""

import torch
from torch import Tensor

FORMATS = {"float32": torch.float32, "float16": torch.float16}


def rounded(heatmaps: Tensor, number: str) -> tuple[Tensor, Tensor]:
    """Return finite (N, *space) maps as values in a format and (N, 1, ...) float32 factors.

    float32 is as computed, float16 relative to each map's maximum: what lies below 3e-8 of it becomes 0.
    """
    scale = torch.ones(len(heatmaps), *[1] * (heatmaps.dim() - 1))
    values = heatmaps.cpu()
    if number == "float16":
        scale = values.abs().amax(tuple(range(1, values.dim())), keepdim=True)
        scale[scale == 0] = 1
    return (values / scale).to(FORMATS[number]).contiguous(), scale.contiguous()


def restored(values: Tensor, scale: Tensor) -> Tensor:
    """Return the float32 maps that `rounded` made values and factors of."""
    return values.float() * scale
