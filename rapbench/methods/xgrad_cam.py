"""XGrad-CAM [fu2020axiom]: channels weighted by their gradients at what is active, through torchcam."""

from torch import Tensor, nn
from torchcam.methods import XGradCAM

from rapbench.methods import methods
from rapbench.methods.adapters.class_activation import class_activation


@methods.register("xgrad_cam", title="XGrad-CAM", signs=("positive",), passes=2)
def xgrad_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the positive part of the weighted sum of a layer's channels, interpolated to the image.

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
    return class_activation(XGradCAM, model, inputs, targets, layer, "xgrad_cam")
