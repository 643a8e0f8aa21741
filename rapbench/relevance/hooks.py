"""A user's forward hooks: they may look, but what one changes is no part of a traced graph."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.model.makeup import reparametrisations


def refuse_hooks_that_change(model: nn.Module, inputs: Tensor) -> None:
    """Run a model that has forward hooks, and raise RapbenchError for one that returns or leaves something else.

    A hook that clips large values, say, changes nothing for most images: the logits do not show it.
    inputs: (N, ...). The hooks of torch.nn.utils.weight_norm, spectral_norm and prune are known.
    """
    changing: list[str] = []
    replaced: list[tuple[dict[int, Any], int, Any]] = []
    for name, module in model.named_modules():
        known = reparametrisations(module)
        for registry in (module._forward_hooks, module._forward_pre_hooks):
            for key, hook in registry.items():
                if not any(hook is one for one in known):
                    replaced.append((registry, key, hook))
                    registry[key] = _watched(hook, changing, name or "the top level")
    try:
        if replaced:
            with torch.no_grad():
                model(inputs.clone())
    finally:
        for registry, key, hook in replaced:
            registry[key] = hook
    if changing:
        raise RapbenchError(
            f"a forward hook at {changing[0]} changes what the module reads or returns, which no graph shows; write it "
            "into the model's forward, or remove the hook"
        )


def _watched(hook: Callable[..., Any], changing: list[str], place: str) -> Callable[..., Any]:
    def watched(module: nn.Module, *given: Any) -> Any:
        before = [(tensor, tensor._version) for tensor in _parts(given) if not tensor.is_inference()]
        result = hook(module, *given)
        known = {id(part) for part in _parts(given)}
        new = result is not None and any(id(part) not in known for part in _parts(result))
        if new or any(tensor._version != version for tensor, version in before):
            changing.append(place)
        return result

    return watched


def _parts(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value if isinstance(value, (tuple, list)) else ()
    return [part for one in values for part in _parts(one)]
