"""Grad-CAM++ [chattopadhay2018gradcam]: channels weighted by positive gradients, through torchcam."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.class_activation import PlusPlus, class_activation


@methods.register("grad_cam_plusplus", title="Grad-CAM++", signs=("positive",), passes=2)
def grad_cam_plusplus(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the weighted sum of a layer's channels, with Grad-CAM++'s weights, interpolated to the image.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    layer : str
        The layer's name in the model; None for its last feature map.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For a model without a feature map, and for a name that is no layer's.
    """
    return class_activation(PlusPlus, model, inputs, targets, layer, "grad_cam_plusplus")
