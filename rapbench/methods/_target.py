"""The logit that is explained, and its gradient."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from rapbench.errors import RapbenchError

# What autograd says where a model has no gradient, among all that a model may raise.
_NO_GRADIENT = (
    "derivative for", "is not differentiable", "does not require grad", "doesn't require grad",
    "not have been used in the graph", "modified by an inplace operation",
)  # fmt: skip


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


@contextmanager
def differentiated(model: nn.Module) -> Iterator[None]:
    """Raise RapbenchError, not autograd's error, where a model's logits have no gradient with respect to its input."""
    try:
        yield
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else ""
        if not any(said in reason for said in _NO_GRADIENT):
            raise
        raise RapbenchError(
            f"{type(model).__name__} has no gradient of its logits with respect to its input ({reason}); look for "
            "detach(), torch.no_grad() and operations without a derivative in its forward, or choose another method"
        ) from error
