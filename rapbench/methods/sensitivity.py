"""Sensitivity: the absolute gradient of the target logit [simonyan2014deep], through Captum.

It has no sign: every pixel's relevance is 0 or more.
"""

from captum.attr import Saliency
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.target import explained


@methods.register("sensitivity", title="Sensitivity", signs=("positive",), passes=2)
def sensitivity(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return |d logit / d x|, shaped like `inputs`."""
    saliency = Saliency(explained(model, inputs))
    attribution: Tensor = saliency.attribute(inputs.requires_grad_(), additional_forward_args=targets)
    return attribution
