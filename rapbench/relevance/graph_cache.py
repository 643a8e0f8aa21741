"""A model's graph in the form that a method needs, once it has been seen to compute what the model computes."""

from collections.abc import Callable, Hashable
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.core.tolerance import FEW, difference, full_precision, tolerance
from rapbench.model.makeup import Kept, kept
from rapbench.relevance.canonical import Canonical
from rapbench.relevance.hooks import refuse_hooks_that_change


class Prepared(Kept, Protocol):
    """A model in the form that a method needs."""

    @property
    def canonical(self) -> Canonical:
        """The canonical graph that it was made of."""
        ...

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the model's output for (N, ...) inputs, computed as the method computes it."""
        ...


P = TypeVar("P", bound=Prepared)


def prepared(model: nn.Module, inputs: Tensor, kind: Hashable, build: Callable[[], P]) -> P:
    """Return build(), as `kept` does, its computed weights up to date, once it has given the model's own logits.

    inputs: (N, ...). Raises RapbenchError when the logits differ by more than rounding.
    """

    def checked() -> P:
        found = build()
        refuse_unlike(model, inputs, found)
        return found

    found = kept(model, inputs, kind, checked)
    found.canonical.update()
    return found


def refuse_unlike(model: nn.Module, inputs: Tensor, found: Prepared) -> None:
    """Raise RapbenchError when a traced model gives other logits than the model; inputs: (N, ...)."""
    some = inputs if found.shaped else inputs[:FEW]
    name = type(model).__name__
    with torch.no_grad(), full_precision():
        try:
            own = model(some.clone())
        except Exception as error:
            if out_of_memory(error) or len(some) == len(inputs):
                raise
            some = inputs  # a model that takes batches of one size
            own = model(some.clone())
        if isinstance(own, Tensor) and not own.isfinite().all():
            raise RapbenchError(f"{name} gives NaN or infinite logits; do the images or weights hold NaN?")
        refuse_hooks_that_change(model, some)
        try:
            traced = found.logits(some.clone())
        except Exception as error:
            if out_of_memory(error) or isinstance(error, RapbenchError):
                raise
            reason = str(error).strip().splitlines()
            raise RapbenchError(
                f"the graph that torch.fx traced of {name} fails where the model itself does not "
                f"({type(error).__name__}: {reason[0] if reason else ''}); {_WRITE_PLAINLY}"
            ) from error
    apart = difference(traced, own)
    if apart > tolerance(own):
        raise RapbenchError(
            f"the graph that torch.fx traced of {name} gives other logits than the model itself (they differ by "
            f"{apart:.1g} of the largest); {_WRITE_PLAINLY}"
        )


_WRITE_PLAINLY = (
    "write its forward without what tracing cannot see (operations in place on views, autocast, branches on the type "
    "of the input), or choose a method that needs no graph: sensitivity, gradient_x_input, integrated_gradients, "
    "smoothgrad"
)
