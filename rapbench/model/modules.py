"""Which modules can be explained, and how one is asked without being changed."""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from rapbench.core.errors import RapbenchError
from rapbench.model.makeup import wrapped

WRAP = "wrap it in an nn.Module whose forward"


def explainable(model: Any) -> nn.Module:
    """Return the module that can be explained: what is inside torch.compile's or DataParallel's wrapper.

    Raises RapbenchError for what is none: no module, TorchScript, int8, without weights, with further inputs.
    """
    if not isinstance(model, nn.Module):
        known = "a class" if isinstance(model, type) else f"a {type(model).__name__}"
        todo = "give an instance" if isinstance(model, type) else f"{WRAP} calls it"
        raise RapbenchError(f"the model must be a torch.nn.Module, got {known}; {todo}")
    network: nn.Module = model
    while (inside := wrapped(network)) is not None:
        network = inside
    name = type(network).__name__
    for place, module in network.named_modules():
        where = f"{type(module).__name__} at {place or 'the top level'}"
        if isinstance(module, torch.jit.ScriptModule):
            raise RapbenchError(f"{where} is TorchScript, which is unsupported; give the Python module it was made of")
        if type(module).__module__.startswith(("torch.ao.nn.quantized", "torch.ao.nn.intrinsic.quantized")):
            raise RapbenchError(f"{where} is quantised and has no gradient; give the original float model")
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is not None and (is_lazy(tensor) or tensor.is_meta):
                why = "is lazy: call model(inputs) once first" if is_lazy(tensor) else "has no data: load the weights"
                raise RapbenchError(f"{where} {why}")
            if tensor is not None and tensor.is_inference():
                raise RapbenchError(f"{where} was made in inference mode and has no gradients; make it outside of it")
    try:
        parameters = list(inspect.signature(network.forward).parameters.values())
    except (TypeError, ValueError):
        return network
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in parameters if one.default is one.empty and one.kind is not inspect.Parameter.VAR_POSITIONAL
              and one.kind is not inspect.Parameter.VAR_KEYWORD]  # fmt: skip
    first = parameters[0] if parameters else None
    takes_one = first is not None and first.kind in (*positional, inspect.Parameter.VAR_POSITIONAL)
    if not takes_one:
        raise RapbenchError(f"{name}'s forward has no positional argument for the images; {WRAP} takes the images")
    further = [one.name for one in needed if one is not first]
    if further:
        raise RapbenchError(
            f"{name}'s forward needs {' and '.join(further)} beside the images; {WRAP} takes the images alone"
        )
    return network


@contextmanager
def at_rest(model: nn.Module) -> Iterator[None]:
    """Put every module into eval mode, and each back into its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
