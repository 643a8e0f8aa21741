"""Function and method calls of a graph as calls of the modules that do the same."""

import operator
from typing import Any

from torch import fx, nn

from rapbench.relevance.function_modules import MODULES
from rapbench.relevance.node_names import FROM_FUNCTION
from rapbench.relevance.node_properties import signals
from rapbench.relevance.operations import (
    BOUNDED,
    RESHAPES,
    SPLITS,
    TRANSPARENT,
    Add,
    Cat,
    Constant,
    Gate,
    MatMul,
    Part,
)
from rapbench.relevance.tracing import attribute_of


def to_module(owner: fx.GraphModule, node: fx.Node, shapes: set[fx.Node]) -> None:
    """Replace a function or method call by a module call, where MODULES knows one that does just the same."""
    source = node.args[0] if node.args else None
    if node.target is operator.getitem and isinstance(source, fx.Node) and source.target in SPLITS:
        split = _closed(source) if isinstance(node.args[1], int) else None
        module: nn.Module | None = Part(split, node.args[1]) if split else None  # type: ignore[arg-type]
        inputs: list[fx.Node] = list(source.all_input_nodes)
    else:
        module, inputs = _module_for(owner, node, shapes)
    if module is None:
        return
    name = f"{FROM_FUNCTION}{node.name}"
    if getattr(module, "inplace", False):
        module.inplace = False  # type: ignore[assignment]
    owner.add_module(name, module.eval())
    with owner.graph.inserting_before(node):
        call = owner.graph.call_module(name, tuple(inputs))
    call.meta.update(node.meta)
    node.replace_all_uses_with(call)
    owner.graph.erase_node(node)


def _module_for(owner: fx.GraphModule, node: fx.Node, shapes: set[fx.Node]) -> tuple[nn.Module | None, list[fx.Node]]:
    """Return the module that does what a call does, and its inputs; None for a form of the call that has none.

    Such a call stays, and is refused by whoever needs a rule for it.
    """
    build = MODULES.get(node.target)
    if build is None or not shapes.isdisjoint(node.all_input_nodes):
        return None, []

    def constant(argument: fx.Node) -> Any:
        return attribute_of(owner, str(argument.target)) if argument.op == "get_attr" else argument

    arguments, keywords = fx.node.map_arg((node.args, node.kwargs), constant)
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
    if isinstance(module, MatMul):
        if len(inputs) != 2:
            return None, []
        weights = [_is_attention(owner, argument) for argument in inputs]
        module.values = weights.index(False) if sum(weights) == 1 else None
        return module, inputs
    # any other module reads one signal, the first argument: another one would be lost
    several = isinstance(module, (Add, Cat))
    return (module, inputs) if several or len(inputs) == 1 else (None, [])


def _is_gate(owner: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node's values come, but for constants and shapes, straight from a function between bounds."""
    while node.op in ("call_module", "call_method", "call_function"):
        module = owner.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (*BOUNDED, nn.Softmax)):
            return True
        passes = isinstance(module, (*TRANSPARENT, Constant)) or node.target in RESHAPES | {"expand", "expand_as"}
        if not passes:
            return False
        node = node.all_input_nodes[0]
    return False


def _is_attention(owner: fx.GraphModule, node: fx.Node) -> bool:
    """Whether a node depends on the network's input through a softmax alone, as weights of attention do."""
    waiting, seen, found = [node], {node}, False
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return False
        module = owner.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, nn.Softmax):
            found = True
            continue
        further = [argument for argument in node.all_input_nodes if argument not in seen]
        waiting += further
        seen.update(further)
    return found


def _closed(node: fx.Node) -> Any:
    """A call of one tensor with constants, as a function of the tensor; None where it takes other nodes too."""
    if len(node.all_input_nodes) != 1 or not node.args or node.args[0] is not node.all_input_nodes[0]:
        return None
    target: Any = node.target
    if node.op == "call_method":
        return lambda x: getattr(x, target)(*node.args[1:], **node.kwargs)
    return lambda x: target(x, *node.args[1:], **node.kwargs)
