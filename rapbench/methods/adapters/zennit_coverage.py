"""Whether zennit sees all of a network that its relevance depends on.

zennit hangs rules on modules, by hooks. What has no hook passes relevance on as its gradient. That is right where
elements only move, and for a ReLU, whose relevance is 0 where its gradient is. It is wrong, silently, at additions,
averages, products and linear maps that are functions, at a module with a rule that is called twice, whose hook keeps
the last call's input only, and where a weight is no parameter.
"""

import copy
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from rapbench.core.errors import RapbenchError
from rapbench.core.tolerance import difference, full_precision, tolerance
from rapbench.relevance.hooks import refuse_hooks_that_change
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.node_properties import shape_valued
from rapbench.relevance.operations import (
    ACTIVATIONS,
    INTERPOLATIONS,
    MOVES,
    PADS,
    POOLS,
    REARRANGES,
    RESHAPES,
    SPLITS,
    TRANSPARENT,
    UPSAMPLES,
)
from rapbench.relevance.tracing import trace

# Functions and methods whose gradient is right: what moves elements or passes them on, and ReLU.
PLACES = RESHAPES | REARRANGES | SPLITS | {torch.cat, torch.concat, torch._assert, *ACTIVATIONS[nn.ReLU]} | {
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d,
    torch.max_pool2d, torch.max_pool3d,
}  # fmt: skip
INSTEAD = "use the lrp methods, which follow the graph"
NO_RULE_NEEDED = (*TRANSPARENT, *MOVES, *PADS, *POOLS["max"], nn.Flatten, nn.Unflatten, nn.ReLU)
LAYERS = (nn.Linear, nn.modules.conv._ConvNd)


def covered_copy(model: nn.Module, inputs: Tensor, composite: Any, method: str) -> nn.Module:
    """Return a copy of a model, which computes the same, for a composite of zennit.

    Parameters
    ----------
    model : nn.Module
        In eval mode; left as it was.
    inputs : Tensor
        (N, ...).
    composite : zennit.core.Composite
        With its canonizers; not registered yet.
    method : str
        For messages.

    Raises
    ------
    RapbenchError
        Names the first operation at which zennit's relevance would not be what the composite says, and where it
        stands.
    """
    network = copy.deepcopy(model)
    for module in network.modules():
        if isinstance(module, _BatchNorm) and module.running_var is not None:
            module.running_var += module.eps  # zennit's merging leaves a norm of variance 1, to which eps is added
            module.eps = 0.0
    canonized = copy.deepcopy(network)
    refuse_hooks_that_change(model, inputs)
    with torch.no_grad(), full_precision():
        own = model(inputs.clone())
        if not _canonized(canonized, composite) or difference(canonized(inputs.clone()), own) > tolerance(own):
            raise RapbenchError(
                f"{method}: zennit's canonizers merge a batch norm of {type(model).__name__} with a layer that does "
                f"not stand before it, which changes the network; {INSTEAD}"
            )
    _refuse_uncovered(canonized, inputs, composite, method)
    return network


def _canonized(network: nn.Module, composite: Any) -> bool:
    """Apply a composite's canonizers; whether that works."""
    try:
        for canonizer in composite.canonizers:
            canonizer.apply(network)
    except RuntimeError:  # a norm and a layer of other channels
        return False
    return True


def _refuse_uncovered(network: nn.Module, inputs: Tensor, composite: Any, method: str) -> None:
    graph_module = trace(network, inputs, leaves=(Conv2dSame, *_sums())).graph_module
    context: dict[Any, Any] = {}
    hooks = {name: composite.module_map(context, name, module) for name, module in network.named_modules()}
    shapes = shape_valued(graph_module.graph)
    varying: set[fx.Node] = set()
    plain: set[fx.Node] = set()  # the input, and what only moves it
    called: set[str] = set()
    for node in graph_module.graph.nodes:
        if node.op == "placeholder":
            varying.add(node)
            plain.add(node)
            continue
        if node.op == "output" or node in shapes or varying.isdisjoint(node.all_input_nodes):
            continue
        varying.add(node)
        reads_image = plain.issuperset(argument for argument in node.all_input_nodes if argument in varying)
        why = ""
        if node.op != "call_module":
            why = "" if node.target in PLACES or _stacks_for_sum(graph_module, node) else "zennit sees modules only"
        else:
            name = str(node.target)
            module, hook = graph_module.get_submodule(name), hooks[name]
            why = _unruled(module) if hook is None else _misruled(module, again=name in called)
            if isinstance(module, LAYERS) and not why and _is_first(composite, hook) and not reads_image:
                why = "zennit takes it for the first layer, which it is not"
            if reads_image and isinstance(module, LAYERS) and _has_first(composite) and not _is_first(composite, hook):
                why = why or "zennit does not take it for the first layer, which it is"
            called.add(name)
        if why:
            raise RapbenchError(
                f"{method}: no right relevance at {operation(graph_module, node)} at {place(node)}: {why}; {INSTEAD}"
            )
        if reads_image and (node.op != "call_module" or isinstance(module, (*TRANSPARENT, *MOVES, nn.Flatten))):
            plain.add(node)


def _sums() -> tuple[type[nn.Module], ...]:
    from zennit.layer import Sum

    return (Sum,)


def _stacks_for_sum(graph_module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node stacks what zennit's Sum alone reads, as its canonizers write additions."""
    users = list(node.users)
    return node.target is torch.stack and all(
        user.op == "call_module" and isinstance(graph_module.get_submodule(str(user.target)), _sums()) for user in users
    )


def _unruled(module: nn.Module) -> str:
    """Why a module without a rule is passed wrongly; nothing where its gradient is right."""
    if isinstance(module, NO_RULE_NEEDED) or (isinstance(module, UPSAMPLES) and module.mode in INTERPOLATIONS):
        return ""
    if isinstance(module, _BatchNorm) and _is_identity(module):
        return ""
    return "the composite has no rule for it"


def _is_identity(norm: _BatchNorm) -> bool:
    """Whether a norm does nothing, as one that is merged."""
    ends = ((norm.running_mean, 0), (norm.running_var, 1), (norm.weight, 1), (norm.bias, 0))
    return norm.eps == 0 and all(tensor is None or bool((tensor == value).all()) for tensor, value in ends)


def _misruled(module: nn.Module, *, again: bool) -> str:
    """Why the hook of a rule gets a module wrong; nothing where it does not."""
    if not isinstance(module, (*LAYERS, *POOLS["average"])):
        return ""
    if again:
        return "the module is called twice, and zennit keeps what the last call read"
    if isinstance(module, LAYERS) and "weight" not in module._parameters:
        return "its weight is no parameter"
    return ""


def _has_first(composite: Any) -> bool:
    return bool(getattr(composite, "first_map", None))


def _is_first(composite: Any, hook: Any) -> bool:
    """Whether a hook is that of the first layer."""
    return _has_first(composite) and any(hook is own for _, own in composite.first_map)
