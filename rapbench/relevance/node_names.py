"""How the user's model calls what a node of its graph does, and where it stands."""

import torch.fx

from rapbench.relevance.operations import Constant


def place(node: torch.fx.Node) -> str:
    """Where a node stands in the user's model: the module that calls it, or the module itself."""
    if "place" in node.meta:
        return str(node.meta["place"])
    if node.op == "call_module" and not str(node.target).startswith("_canonical_"):
        return str(node.target)
    stack = node.meta.get("nn_module_stack") or {}
    owner = next(reversed(stack.values()))[0] if stack else ""
    return f"{owner or 'the top level'} ({node.name.removeprefix('_canonical_')})"


def operation(network: torch.fx.GraphModule, node: torch.fx.Node) -> str:
    """What a node does, as its author would call it."""
    if node.op != "call_module":
        return str(getattr(node.target, "__name__", node.target))
    module = network.get_submodule(str(node.target))
    return module.operation.__name__ if isinstance(module, Constant) else type(module).__name__
