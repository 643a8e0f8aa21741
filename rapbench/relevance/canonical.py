"""A model as a flat graph in which every operation is a module, so that a rule is found by the module's type."""

import operator
from typing import Any

import torch
import torch.fx
from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.constants import fold_constants
from rapbench.relevance.inplace import IN_PLACE, without_in_place
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.operations import (
    BOUNDED,
    MODULES,
    NONNEGATIVE,
    POOLS,
    RESHAPES,
    SPLITS,
    TRANSPARENT,
    Add,
    Cat,
    Constant,
    Gate,
    Mean,
    Pad,
    Part,
)
from rapbench.relevance.plain import plain, twin
from rapbench.relevance.tracing import SHAPE_ATTRIBUTES, SHAPES, attribute_of, trace

__all__ = ["canonical", "nonnegative", "operation", "own_modules", "place", "refuse_batch_statistics", "shape_valued",
           "signals", "twin", "update"]  # fmt: skip

# What keeps numbers numbers.
_ARITHMETIC = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod,
    operator.neg, operator.eq, operator.ne, operator.lt, operator.gt, operator.le, operator.ge, int, float, bool,
    *IN_PLACE,
}  # fmt: skip


def canonical(
    model: nn.Module, inputs: Tensor | None = None, leaves: tuple[type[nn.Module], ...] = ()
) -> torch.fx.GraphModule:
    """Trace `model` into a graph of module calls; the model keeps its own modules and shares its parameters.

    inputs: a batch of the size that the graph is for. Models that branch on it or compute with it need one, and it
    shows which tensors share memory where an operation works in place. leaves: further module types that stay one node.
    Functional calls become modules (`operations.MODULES`); nothing works in place any more, since both directions need
    every activation as it was; `detach` is gone; weights that are computed from others are weights. The modules have no
    hooks. Auxiliary heads of a model in eval mode do not appear. Operations it does not know stay as they are.
    `meta["shaped"]` says whether it holds for inputs of this shape only, and `meta["updates"]` what to call when the
    weights may have changed (`update`).
    Whether it computes what the model computes is for `prepared` to see.
    Raises RapbenchError when the model cannot be traced.
    """
    result = trace(model, inputs, leaves)
    if inputs is not None and not result.meta["shaped"] and _computes_with_sizes(result.graph):
        result = trace(model, inputs, leaves, shaped=True)
    graph, updates = result.graph, []
    for target in {str(node.target): node for node in graph.nodes if node.op == "call_module"}:
        module, computed = plain(result.get_submodule(target), target)
        result.add_submodule(target, module)
        updates += computed
    updates += fold_constants(result, shape_valued(graph))
    result.meta["updates"] = updates
    shapes = shape_valued(graph)
    changing = without_in_place(result, shapes, inputs)
    for node in list(graph.nodes):
        if _detaches(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op in ("call_function", "call_method") and node not in shapes:
            _to_module(result, node, shapes)
        elif node.op == "call_module" and node in changing:
            module = twin(result.get_submodule(str(node.target)))
            module.inplace = False  # type: ignore[assignment]
            result.add_submodule(str(node.target), module)
    for node in [node for node in graph.nodes if node.target is torch._assert]:
        graph.erase_node(node)  # a traced assertion about a shape has done its work
    graph.eliminate_dead_code()
    graph.lint()
    result.recompile()
    return result


def update(network: torch.fx.GraphModule) -> None:
    """Compute anew, in place, the weights of a canonical graph that are computed from the model's."""
    for compute in network.meta.get("updates", ()):
        compute()


def _computes_with_sizes(graph: torch.fx.Graph) -> bool:
    """Whether a module would have to be built with a size that is known only when the graph runs."""
    shapes = shape_valued(graph)
    return any(node.target in MODULES and not shapes.isdisjoint(node.all_input_nodes)
               for node in graph.nodes if node not in shapes)  # fmt: skip


def _detaches(node: torch.fx.Node) -> bool:
    """Whether a node only says that no gradient is to go through it."""
    if node.target is getattr:
        return str(node.args[1]) == "data"
    return (node.op == "call_method" and node.target == "detach") or node.target is torch.detach


def own_modules(network: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Give each call in a canonical graph a module of its own, in place: hooks would mix the calls of a shared one.

    The further modules are copies which share the parameters.
    """
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op == "call_module":
            if node.target in seen:
                copied = twin(network.get_submodule(node.target))
                node.target = f"_again_{node.name}"
                network.add_submodule(node.target, copied)
            seen.add(node.target)
    network.recompile()
    return network


def shape_valued(graph: torch.fx.Graph) -> set[torch.fx.Node]:
    """Return the nodes that compute shapes or numbers, which carry no relevance."""
    found: set[torch.fx.Node] = set()
    for node in graph.nodes:
        asks = node.target in SHAPES or (node.target is getattr and node.args[1] in SHAPE_ATTRIBUTES)
        inputs = node.all_input_nodes
        if asks or (node.target in _ARITHMETIC and inputs and all(argument in found for argument in inputs)):
            found.add(node)
    return found


def refuse_batch_statistics(network: torch.fx.GraphModule) -> None:
    """Raise RapbenchError for a batch norm that normalises by the batch it is in."""
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise RapbenchError(
                f"{type(module).__name__} at {place(node)} has no running statistics: its output depends on the other "
                "images of the batch; set track_running_stats=True and calibrate it"
            )


def signals(node: torch.fx.Node, shapes: set[torch.fx.Node]) -> list[torch.fx.Node]:
    """Return a node's tensor inputs, in order and with repetitions."""
    found: list[torch.fx.Node] = []
    torch.fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return [argument for argument in found if argument not in shapes]


def nonnegative(network: torch.fx.GraphModule) -> set[torch.fx.Node]:
    """Return the nodes of a canonical graph whose values are never negative, whatever the input is."""
    found: set[torch.fx.Node] = set()
    keeps = (*TRANSPARENT, *POOLS["max"], *POOLS["average"], MaxPool2dSame, AvgPool2dSame, nn.Flatten, Mean, Cat, Add,
             Gate, Part)  # fmt: skip
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, NONNEGATIVE) or (isinstance(module, nn.Hardtanh) and module.min_val >= 0):
            found.add(node)
        elif isinstance(module, keeps) or (isinstance(module, Pad) and (module.value or 0) >= 0):
            if all(argument in found for argument in node.all_input_nodes):
                found.add(node)
        elif node.target in RESHAPES and node.all_input_nodes[0] in found:
            found.add(node)
    return found


def _to_module(owner: torch.fx.GraphModule, node: torch.fx.Node, shapes: set[torch.fx.Node]) -> None:
    """Replace a function or method call by a module call, where MODULES knows one that does just the same."""
    source = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(source, torch.fx.Node) and source.target in SPLITS:
        split = _closed(source) if isinstance(node.args[1], int) else None
        module: nn.Module | None = Part(split, node.args[1]) if split else None  # type: ignore[arg-type]
        inputs: list[torch.fx.Node] = list(source.all_input_nodes)
    else:
        module, inputs = _module_for(owner, node, shapes)
    if module is None:
        return
    name = f"_canonical_{node.name}"
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment]
    owner.add_module(name, module.eval())
    with owner.graph.inserting_before(node):
        call = owner.graph.call_module(name, tuple(inputs))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    owner.graph.erase_node(node)


def _module_for(
    owner: torch.fx.GraphModule, node: torch.fx.Node, shapes: set[torch.fx.Node]
) -> tuple[nn.Module | None, list[torch.fx.Node]]:
    """Return the module that does what a call does, and its inputs; None for a form of the call that has none.

    Such a call stays, and is refused by whoever needs a rule for it.
    """
    build = MODULES.get(node.target)
    if build is None or not shapes.isdisjoint(node.all_input_nodes):
        return None, []

    def constant(argument: torch.fx.Node) -> Any:
        return attribute_of(owner, str(argument.target)) if argument.op == "get_attr" else argument

    arguments, keywords = torch.fx.node.map_arg((node.args, node.kwargs), constant)
    try:
        module = build(*arguments, **keywords)
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError, AssertionError):
        return None, []
    inputs = [argument for argument in signals(node, set()) if argument.op != "get_attr"]
    if isinstance(module, Gate):
        gates = [_is_gate(owner, argument) for argument in inputs]
        if sum(gates) != 1:
            return None, []
        return module, inputs[::-1] if gates[0] else inputs
    # any other module reads one signal, the first argument: another one would be lost
    several = isinstance(module, (Add, Cat))
    return (module, inputs) if several or len(inputs) == 1 else (None, [])


def _is_gate(owner: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Whether a node's values come, but for constants and shapes, straight from a function between bounds."""
    while node.op in ("call_module", "call_method", "call_function"):
        module = owner.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, BOUNDED):
            return True
        passes = isinstance(module, (*TRANSPARENT, Constant)) or node.target in RESHAPES | {"expand", "expand_as"}
        if not passes:
            return False
        node = node.all_input_nodes[0]
    return False


def _closed(node: torch.fx.Node) -> Any:
    """A call of one tensor with constants, as a function of the tensor; None where it takes other nodes too."""
    if len(node.all_input_nodes) != 1 or not node.args or node.args[0] is not node.all_input_nodes[0]:
        return None
    target: Any = node.target
    if node.op == "call_method":
        return lambda x: getattr(x, target)(*node.args[1:], **node.kwargs)
    return lambda x: target(x, *node.args[1:], **node.kwargs)
