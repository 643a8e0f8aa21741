"""The memory layout of images, whatever their number of spatial dimensions."""

from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)
FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def channels_last(images: Tensor) -> Tensor:
    """Return (N, C, *space) images with the channels of a pixel side by side, where torch has such a format.

    Convolutions are faster so; values and shape stay. Sequences, (N, C, L), come back as they came.
    """
    if images.dim() not in FORMATS:
        return images
    return images.contiguous(memory_format=FORMATS[images.dim()])


def placed(model: Module, device: torch.device | str) -> Module:
    """Return a model on a device, its weights in the format that its images come in."""

    def laid_out(tensor: Tensor) -> Tensor:
        return tensor.to(memory_format=FORMATS[tensor.dim()]) if tensor.dim() in FORMATS else tensor

    nn.Module._apply(model.to(device), laid_out)
    return model
