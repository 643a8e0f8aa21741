"""PatternNet: the estimated signal of the target logit, propagated to the input [kindermans2017patternnet]."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.patterns import propagate
from rapbench.patterns.file import find


@methods.register("pattern_net", title="PatternNet", signs=("positive", "negative"), passes=3, files={"patterns": find})
def pattern_net(model: nn.Module, inputs: Tensor, targets: Tensor, *, patterns: str | None = None) -> Tensor:
    """Return the signal: backpropagation with patterns in place of the weights.

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
        The signal.

    Raises
    ------
    RapbenchError
        For a network that is not of VGG type, and for patterns that are missing or belong to other weights.
    """
    return propagate(model, inputs, targets, patterns, lambda weight, pattern: pattern)
