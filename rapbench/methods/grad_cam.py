"""Grad-CAM [selvaraju2017gradcam]: a layer's channels, weighted by their mean gradients, through Captum."""

from captum.attr import LayerGradCam
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.feature_maps import enlarged, probed
from rapbench.methods.adapters.gradient import check_gradient
from rapbench.methods.adapters.target import target_logits


@methods.register("grad_cam", title="Grad-CAM", signs=("positive",), passes=2)
def grad_cam(model: nn.Module, inputs: Tensor, targets: Tensor, *, layer: str | None = None) -> Tensor:
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
    check_gradient(model, inputs)
    network = probed(model, inputs, layer, "grad_cam")
    found = LayerGradCam(lambda x, t: target_logits(network(x), t), network.probe).attribute(
        inputs.requires_grad_(), additional_forward_args=(targets,), relu_attributions=True
    )
    return enlarged(found[:, 0], inputs)
