"""What a model is made of, and what is worked out from that once and kept while the model lives.

It stands apart from the relevance engine: every method asks it, and not every method's results depend on the engine.
"""

import weakref
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm


class Kept(Protocol):
    """Something made of a model. shaped: it holds for inputs of one shape only."""

    @property
    def shaped(self) -> bool:
        """Whether it holds for inputs of one shape only."""
        ...


K = TypeVar("K", bound=Kept)
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
            known_already: K = found
            return known_already
    built = build()
    known[kind] = built, (made_of, inputs.shape if built.shaped else None)
    return built


def wrapped(module: nn.Module) -> nn.Module | None:
    """Return the module inside torch.compile's, DataParallel's or DistributedDataParallel's wrapper, else None."""
    if isinstance(module, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        inside: nn.Module = module.module
        return inside
    # by name: to import its class takes longer than all the rest
    compiled = type(module).__name__ == "OptimizedModule" and type(module).__module__.startswith("torch._dynamo")
    return module._orig_mod if compiled else None  # type: ignore[return-value]


def reparametrisations(module: nn.Module) -> list[Any]:
    """Return the hooks of torch.nn.utils.weight_norm, spectral_norm and prune, which compute a weight at each call."""
    known = (WeightNorm, SpectralNorm, BasePruningMethod)
    return [hook for hook in module._forward_pre_hooks.values() if isinstance(hook, known)]


def computed_by(hook: Any) -> str:
    """Return the name of the tensor that such a hook computes."""
    return hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name


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
