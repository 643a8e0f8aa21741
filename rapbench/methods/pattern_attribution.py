"""PatternAttribution: the estimated signal's contributions to the target logit [kindermans2017patternnet]."""

import torch
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.patterns import propagate
from rapbench.patterns.file import find


@methods.register(
    "pattern_attribution",
    title="Pattern Attribution",
    signs=("positive", "negative"),
    passes=3,
    files={"patterns": find},
)
def pattern_attribution(model: nn.Module, inputs: Tensor, targets: Tensor, *, patterns: str | None = None) -> Tensor:
    """Return relevance: backpropagation with weight times pattern in place of the weights.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    patterns : str, optional
        A file that `rapbench patterns` wrote. By default the one in the user's cache for these weights.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For a network that is not of VGG type, and for patterns that are missing or belong to other weights.
    """
    return propagate(model, inputs, targets, patterns, torch.mul)
