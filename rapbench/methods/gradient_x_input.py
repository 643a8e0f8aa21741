"""Gradient times input [shrikumar2016not], through Captum."""

from captum.attr import InputXGradient
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.target import explained


@methods.register("gradient_x_input", title="Gradient*Input", signs=("positive", "negative"), passes=2)
def gradient_x_input(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return x * d logit / d x, shaped like `inputs`."""
    attribution: Tensor = InputXGradient(explained(model, inputs)).attribute(
        inputs.requires_grad_(), additional_forward_args=targets
    )
    return attribution.detach()
