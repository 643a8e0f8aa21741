"""Guided backpropagation [springenberg2015striving], through Captum."""

from captum.attr import GuidedBackprop
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.rectified import rectified


@methods.register("guided_backprop", title="Guided Backprop", signs=("positive", "negative"), passes=3)
def guided_backprop(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient, which passes a ReLU only where its output and the gradient are positive.

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
    return rectified(GuidedBackprop, model, inputs, targets, "guided_backprop")
