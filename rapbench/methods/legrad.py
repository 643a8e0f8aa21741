"""LeGrad [bousselham2025legrad]: gradients with respect to the attention of a vision transformer, through torchcam."""

import torch
from torch import Tensor, nn
from torchcam.methods import LeGrad
from torchvision.models import VisionTransformer

from rapbench.core.errors import RapbenchError
from rapbench.methods import methods
from rapbench.methods.adapters.feature_maps import enlarged
from rapbench.methods.adapters.gradient import check_gradient
from rapbench.model import Model


@methods.register("legrad", title="LeGrad", signs=("positive",), passes=2)
def legrad(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the positive gradient of each block's score by its attention to each patch, the mean over blocks.

    Parameters
    ----------
    model : nn.Module
        torchvision's VisionTransformer, from (N, 3, H, W) to (N, classes) logits.
    inputs : Tensor, (N, 3, H, W)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For any other network.
    """
    network = _transformer(model)
    check_gradient(model, inputs)
    side = network.image_size // network.patch_size
    blocks = list(network.encoder.layers)
    with LeGrad(network, blocks, grid_shape=(side, side)) as extractor, torch.enable_grad():
        network(inputs.requires_grad_())
        (maps,) = extractor(targets.tolist(), normalized=False)
    return enlarged(maps, inputs)


def _transformer(model: nn.Module) -> VisionTransformer:
    """Return the transformer that a model is, which may be the network of rapbench's own wrapper."""
    network = model.network if isinstance(model, Model) else model
    if not isinstance(network, VisionTransformer):
        raise RapbenchError(
            f"legrad reads the attention of torchvision's vision transformers (vit_b_16 and its kin), and "
            f"{type(network).__name__} is none; choose another method for this model"
        )
    return network
