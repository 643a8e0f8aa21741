"""Modules as their rules know them: the weight a parameter, whatever it is computed from, and no hooks."""

import copy
import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, type_before_parametrizations

from rapbench.core.errors import RapbenchError
from rapbench.model.makeup import computed_by, reparametrisations

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def twin(module: nn.Module, kind: type[nn.Module] | None = None) -> nn.Module:
    """Return a copy with the same parameters, but registries of its own: a shallow copy would share the hooks too.

    kind: the copy's type, by default the module's.
    """
    kind = type(module) if kind is None else kind
    copied = kind.__new__(kind)  # copy.copy refuses modules with parametrisations
    vars(copied).update(vars(module))
    vars(copied).update({name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, dict)})
    return copied


def plain(module: nn.Module, place: str) -> tuple[nn.Module, list[Callable[[], None]]]:
    """Return a module without hooks whose weights are parameters, and what to call when the weights may have changed.

    It is the module itself where that is so already, else a copy that shares its parameters.
    Raises RapbenchError for a weight that something unknown computes.
    """
    hooked = any(getattr(module, name) for name in HOOKS)
    compiled = getattr(module, "_compiled_call_impl", None) is not None
    computed = [name for name in ("weight", "bias") if isinstance(vars(module).get(name), Tensor)]
    if not (hooked or compiled or computed or is_parametrized(module)):
        return module, []
    copied: Any = twin(module, type_before_parametrizations(module))
    for name in HOOKS:
        setattr(copied, name, OrderedDict())
    copied._compiled_call_impl = None
    updates: list[Callable[[], None]] = []
    if is_parametrized(module):
        del copied._modules["parametrizations"]
        names = [str(name) for name in module.parametrizations]  # type: ignore[union-attr]
        updates += [_kept(copied, name, functools.partial(getattr, module, name)) for name in names]
    for hook in reparametrisations(module):
        name = computed_by(hook)
        copied.__dict__.pop(name, None)
        updates.append(_kept(copied, name, functools.partial(_computed, module, hook, name)))
        computed = [other for other in computed if other != name]
    if computed:
        raise RapbenchError(
            f"the {computed[0]} of {type(module).__name__} at {place} is no parameter: a hook or its owner "
            "computes it; use torch.nn.utils.parametrize, or set it as a parameter"
        )
    return copied, updates


def _computed(module: nn.Module, hook: Any, name: str) -> Tensor:
    scratch = twin(module)
    hook(scratch, ())
    computed: Tensor = getattr(scratch, name)
    return computed


def _kept(module: nn.Module, name: str, compute: Callable[[], Tensor]) -> Callable[[], None]:
    """Give a module the parameter `name`, and return what computes it anew, in place."""
    with torch.no_grad():
        parameter = nn.Parameter(compute().detach().clone(), requires_grad=False)
    module._buffers.pop(name, None)
    module.register_parameter(name, parameter)

    def update() -> None:
        with torch.no_grad():
            parameter.copy_(compute())

    return update
