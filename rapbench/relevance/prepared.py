"""What is worked out from a model's make-up once, and kept while it lives: tracing takes longer than a pass.

Whatever is traced goes through `prepared`, which sees that it computes what the model computes.
"""

import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
import torch.fx
from torch import Tensor, nn

from rapbench.errors import RapbenchError
from rapbench.relevance.canonical import update
from rapbench.relevance.hooks import refuse_hooks_that_change
from rapbench.relevance.plain import computed_by, reparametrisations

FEW = 4  # images to compare on: what tracing gets wrong does not depend on the image


class Kept(Protocol):
    """Something made of a model. shaped: it holds for inputs of one shape only."""

    @property
    def shaped(self) -> bool:
        """Whether it holds for inputs of one shape only."""
        ...


class Prepared(Kept, Protocol):
    """A model in the form that a method needs."""

    @property
    def graph_module(self) -> torch.fx.GraphModule:
        """The canonical graph that it was made of."""
        ...

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the model's output for (N, ...) inputs, computed as the method computes it."""
        ...


K = TypeVar("K", bound=Kept)
P = TypeVar("P", bound=Prepared)
_KNOWN: weakref.WeakKeyDictionary[nn.Module, dict[Hashable, tuple[Any, Any]]] = weakref.WeakKeyDictionary()


def kept(model: nn.Module, inputs: Tensor, kind: Hashable, build: Callable[[], K]) -> K:
    """Return build(), made anew only when the model's make-up has changed; the values of its weights may change freely.

    What `build` returns must read weights when it is used, not keep what it computed from them.
    """
    made_of = makeup(model)
    known = _KNOWN.setdefault(model, {})
    if kind in known:
        found, of = known[kind]
        if of == (made_of, inputs.shape if found.shaped else None):
            return found
    found = build()
    known[kind] = found, (made_of, inputs.shape if found.shaped else None)
    return found


def prepared(model: nn.Module, inputs: Tensor, kind: Hashable, build: Callable[[], P]) -> P:
    """Return build(), as `kept` does, its computed weights up to date, once it has given the model's own logits.

    inputs: (N, ...). Raises RapbenchError when the logits differ by more than rounding.
    """

    def checked() -> P:
        found = build()
        refuse_unlike(model, inputs, found)
        return found

    found = kept(model, inputs, kind, checked)
    update(found.graph_module)
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


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out: the runner's to handle."""
    from rapbench.runner.memory import out_of_memory as said  # which imports this package

    return said(error)


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of two models' logits, (N, classes), as a share of an image's largest; or inf."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return torch.inf
    if torch.equal(one, other):
        return 0.0
    apart = (one.double() - other.double()).abs().flatten(1).amax(1)
    scale = other.double().abs().flatten(1).amax(1).clamp(min=torch.finfo(other.dtype).tiny)
    largest = float((apart / scale).max())
    return largest if largest == largest else torch.inf  # NaN, of one of them


def tolerance(logits: Tensor) -> float:
    """Return how much two ways to compute the same logits may differ by rounding, as a share of the largest."""
    return torch.finfo(logits.dtype).eps ** 0.5


@contextmanager
def full_precision() -> Iterator[None]:
    """Let no GPU round what it multiplies to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def makeup(model: nn.Module) -> list[Any]:
    """Return what a model is made of, but for the values of its weights; equal lists mean the same computation."""
    found: list[Any] = []
    for name, module in model.named_modules():
        passed_over = _REGISTRIES | {computed_by(hook) for hook in reparametrisations(module)}
        attributes = [(key, _print(value)) for key, value in vars(module).items() if key not in passed_over]
        tensors = [
            (key, id(tensor), tensor.data_ptr())
            for registry in (module._parameters, module._buffers)
            for key, tensor in registry.items()
            if tensor is not None
        ]
        found.append((name, id(module), type(module).forward, attributes, tensors))
    return found


_REGISTRIES = {"_parameters", "_buffers", "_modules"}


def _print(value: Any, depth: int = 3) -> Any:
    """Return what tells an attribute from another, or from itself after a change."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return type(value), repr(value)
    if isinstance(value, Tensor):
        return id(value), value.data_ptr(), 0 if value.is_inference() else value._version
    if depth and isinstance(value, dict):
        return [(_print(key, depth - 1), _print(one, depth - 1)) for key, one in value.items()]
    if depth and isinstance(value, (tuple, list)):
        return type(value), [_print(one, depth - 1) for one in value]
    return id(value)
