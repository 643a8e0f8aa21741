"""PatternNet: the estimated signal of the target logit, taken back to the input [kindermans2017patternnet]."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.patterns import propagate
from rapbench.patterns.file import find


@methods.register("pattern_net", title="PatternNet", signs=("positive", "negative"), passes=3, files={"patterns": find})
def pattern_net(model: nn.Module, inputs: Tensor, targets: Tensor, *, patterns: str | None = None) -> Tensor:
    """Return the signal, shaped like `inputs`: the gradient's way back with patterns in place of the weights.

    patterns: a file that `rapbench patterns` wrote; None is the one in the user's cache for these weights.
    Raises RapbenchError for a network that is not of VGG type, and for patterns that are missing or of other weights.
    """
    return propagate(model, inputs, targets, patterns, lambda weight, pattern: pattern)
