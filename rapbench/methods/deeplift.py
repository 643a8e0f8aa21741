"""DeepLIFT with the rescale rule [shrikumar2017deeplift], through Captum."""

import torch
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.rescaled import rescaled


@methods.register("deeplift", title="DeepLIFT", signs=("positive", "negative"), passes=16)
def deeplift(model: nn.Module, inputs: Tensor, targets: Tensor, *, baseline: float = 0.0) -> Tensor:
    """Return relevance by the rescale rule.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    baseline : float
        The reference's value in the network's input space.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. It sums to logit(inputs) - logit(baseline).

    Raises
    ------
    RapbenchError
        For an operation that is neither affine nor an elementwise activation or max pooling.
    """
    return rescaled(model, inputs, torch.full_like(inputs, baseline), targets, "deeplift")
