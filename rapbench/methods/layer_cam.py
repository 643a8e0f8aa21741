"""LayerCAM [jiang2021layercam]: a layer's channels, weighted at each position by its gradient, through torchcam."""

from torch import Tensor, nn
from torchcam.methods import LayerCAM

from rapbench.methods import methods
from rapbench.methods.adapters.class_activation import class_activation


@methods.register("layer_cam", title="LayerCAM", signs=("positive",), passes=2)
def layer_cam(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    layer: str | None = None,
) -> Tensor:
    """Return the sum of a layer's channels, each element weighted by its positive gradient, interpolated to the image.

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
    return class_activation(LayerCAM, model, inputs, targets, layer, "layer_cam")
