"""Edges of the image by Sobel's filter: a control that does not use the model."""

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods import methods


@methods.register("edge", title="Edges", signs=("positive",), passes=0.1, looks_at_model=False)
def edge(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the Sobel magnitude of the channels' mean, the same in every channel, shaped like `inputs`.

    A constant image has no edges: its relevance is 0. Raises RapbenchError for inputs without spatial dimensions.
    """
    if inputs.dim() < 3:
        raise RapbenchError(f"edge needs images, (N, C, ...), got inputs of shape {tuple(inputs.shape)}")
    grey = inputs.double().mean(1).cpu().numpy()
    edges = np.stack([ndimage.generic_gradient_magnitude(image, ndimage.sobel) for image in grey])
    return torch.from_numpy(edges)[:, None].to(inputs).expand_as(inputs).contiguous()
