"""The logit that is explained."""

from collections.abc import Callable

from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.gradient import check_gradient


def target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (N,) logits of the targets; logits: (N, classes), targets: (N,) of these classes."""
    if logits.dim() != 2:
        raise RapbenchError(f"the model must give (N, classes) logits, it gives shape {tuple(logits.shape)}")
    return logits.gather(1, targets[:, None])[:, 0]


def explained(model: nn.Module, inputs: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (inputs, targets) -> the targets' logits, the forward function that Captum wants.

    inputs: (N, ...), to see on that the gradient is that of the logits: RapbenchError where it is not.
    """
    check_gradient(model, inputs)
    return lambda inputs, targets: target_logits(model(inputs.clone()), targets)  # it may work in place on its input
