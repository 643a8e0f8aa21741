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
    """Return relevance shaped like `inputs`: the gradient's way back with weight times pattern for each weight.

    patterns: a file that `rapbench patterns` wrote; None is the one in the user's cache for these weights.
    Raises RapbenchError for a network that is not of VGG type, and for patterns that are missing or of other weights.
    """
    return propagate(model, inputs, targets, patterns, torch.mul)
