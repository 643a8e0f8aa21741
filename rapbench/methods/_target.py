"""The logit that is explained."""

from collections.abc import Callable

from torch import Tensor, nn

from rapbench.errors import RapbenchError


def target_logits(logits: Tensor, targets: Tensor) -> Tensor:
    """Return (N,) logits of the targets; logits: (N, classes), targets: (N,). Out of range: RapbenchError."""
    if logits.dim() != 2:
        raise RapbenchError(f"the model must give (N, classes) logits, it gives shape {tuple(logits.shape)}")
    if targets.max() >= logits.shape[1]:
        raise RapbenchError(f"target {int(targets.max())} is out of range: the model has {logits.shape[1]} classes")
    return logits.gather(1, targets[:, None])[:, 0]


def explained(model: nn.Module) -> Callable[[Tensor, Tensor], Tensor]:
    """Return (inputs, targets) -> the targets' logits, the forward function that Captum wants."""
    return lambda inputs, targets: target_logits(model(inputs), targets)
