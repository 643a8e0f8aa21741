"""How the user's model calls what a node of its graph does, and where it stands."""

import torch.fx

from rapbench.relevance.operations import Constant

# How the target of a module call begins that was a function in the user's model.
FROM_FUNCTION = "_canonical_"


def place(node: torch.fx.Node) -> str:
    """Where a node stands in the user's model: the module that calls it, or the module itself."""
    stack = node.meta.get("nn_module_stack") or {}  # as torch.fx fills it: the modules around a call, itself the last
    owner = next(reversed(stack.values()))[0] if stack else ""
    if node.op == "call_module" and not str(node.target).startswith(FROM_FUNCTION):
        return str(owner or node.target)
    return f"{owner or 'the top level'} ({node.name.removeprefix(FROM_FUNCTION)})"


def operation(network: torch.fx.GraphModule, node: torch.fx.Node) -> str:
    """What a node does, as its author would call it."""
    if node.op != "call_module":
        return str(getattr(node.target, "__name__", node.target))
    module = network.get_submodule(str(node.target))
    return module.operation.__name__ if isinstance(module, Constant) else type(module).__name__
