"""Deconvolution [zeiler2014visualizing], through Captum."""

from captum.attr import Deconvolution
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.rectified import rectified


@methods.register("deconvolution", title="Deconvolution", signs=("positive", "negative"), passes=4)
def deconvolution(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient, which passes a ReLU only where it is positive, whatever the ReLU's output.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For activations other than ReLU and ReLU6, min(ReLU, 6), and for a model without any.
    """
    return rectified(Deconvolution, model, inputs, targets, "deconvolution")
