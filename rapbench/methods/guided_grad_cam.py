"""Guided Grad-CAM [selvaraju2017gradcam]: guided backpropagation times Grad-CAM, through Captum."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.grad_cam import grad_cam
from rapbench.methods.guided_backprop import guided_backprop


@methods.register("guided_grad_cam", title="Guided Grad-CAM", signs=("positive", "negative"), passes=5)
def guided_grad_cam(model: nn.Module, inputs: Tensor, targets: Tensor, *, layer: str | None = None) -> Tensor:
    """Return guided backpropagation times Grad-CAM, element by element.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    layer : str
        Grad-CAM's layer, by its name in the model; None for its last feature map.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For activations other than ReLU and ReLU6, and for a model without a ReLU or a feature map.
    """
    cam: Tensor = grad_cam(model, inputs, targets, layer=layer)
    guided: Tensor = guided_backprop(model, inputs.detach(), targets)
    return guided * cam
