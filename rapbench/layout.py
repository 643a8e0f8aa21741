"""The memory layout of images, whatever their number of spatial dimensions."""

import torch
from torch import Tensor

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(images: Tensor) -> Tensor:
    """Return (N, C, *space) images with the channels of a pixel side by side, where torch has such a format.

    Convolutions are faster so; values and shape stay. Sequences, (N, C, L), come back as they came.
    """
    if images.dim() not in FORMATS:
        return images
    return images.contiguous(memory_format=FORMATS[images.dim()])
