"""What a graph computes from weights alone, as weights: a scaled, standardised or reshaped parameter."""

from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.relevance.inplace import changes_its_input
from rapbench.relevance.linear import LINEAR
from rapbench.relevance.node_names import operation, place


def fold_constants(owner: torch.fx.GraphModule, shapes: set[torch.fx.Node]) -> list[Callable[[], None]]:
    """Replace each tensor that depends on no input by an attribute of the graph, and numbers by themselves.

    Returns what to call when the weights may have changed: each computes one of them anew, in place.
    Raises RapbenchError for a forward that changes a buffer or parameter of its own.
    """
    constant: set[torch.fx.Node] = set()
    own: set[torch.fx.Node] = set()  # the model's tensors, and what may be a view of one
    for node in owner.graph.nodes:
        if node.op == "get_attr" or (
            node.op.startswith("call") and node.all_input_nodes and constant.issuperset(node.all_input_nodes)
        ) or (node.op == "call_module" and not node.all_input_nodes):  # fmt: skip
            constant.add(node)
            if node.op == "get_attr" or not (own.isdisjoint(node.all_input_nodes) or _is_fresh(owner, node)):
                own.add(node)
        if node in constant and node not in shapes and changes_its_input(owner, node) and node.args[0] in own:
            raise RapbenchError(
                f"{operation(owner, node)} at {place(node)} changes the model's own tensor in its forward pass: the "
                "answer depends on what was run before; do that in training mode only"
            )
    order = {node: number for number, node in enumerate(owner.graph.nodes)}
    changes = [node for node in order if node in constant and node not in shapes and changes_its_input(owner, node)]
    updates: list[Callable[[], None]] = []
    for node in [node for node in order if node in constant and node.op != "get_attr"]:
        readers_of: dict[frozenset[torch.fx.Node], list[torch.fx.Node]] = {}  # by what the value they read comes from
        for user in [user for user in node.users if user not in constant]:
            before = [change for change in changes if order[change] < order[user]]
            readers_of.setdefault(_needed(node, before), []).append(user)
        for number, (needed, readers) in enumerate(readers_of.items()):
            compute = _computation(owner, sorted(needed, key=order.__getitem__), node)
            with torch.no_grad():
                value = compute()
            if node in shapes:
                _write_out(node, value, readers)
            elif isinstance(value, Tensor):
                name = f"_folded_{node.name}_{number}" if number else f"_folded_{node.name}"
                kept = value.detach().clone()
                owner.register_buffer(name, kept)
                with owner.graph.inserting_before(node):
                    got = owner.graph.get_attr(name)
                for user in readers:
                    user.replace_input_with(node, got)
                updates.append(_update(kept, compute))
    for node in reversed(order):  # what changes a constant in place has done its work
        if node in constant and not node.users:
            owner.graph.erase_node(node)
    return updates


def _needed(node: torch.fx.Node, changes: list[torch.fx.Node]) -> frozenset[torch.fx.Node]:
    """Return what a constant is computed from: its sources, and those calls that may change one, as through a view."""
    needed = _sources(node)
    while found := [change for change in changes if change not in needed and _calls(needed & _sources(change))]:
        needed = needed.union(*map(_sources, found))
    return needed


def _calls(nodes: frozenset[torch.fx.Node]) -> bool:
    return any(node.op != "get_attr" for node in nodes)


def _sources(node: torch.fx.Node) -> frozenset[torch.fx.Node]:
    """Return a node and all that it is computed from."""
    found: set[torch.fx.Node] = set()
    left = [node]
    while left:
        if (one := left.pop()) not in found:
            found.add(one)
            left += one.all_input_nodes
    return frozenset(found)


def _is_fresh(owner: torch.fx.GraphModule, node: torch.fx.Node) -> bool:
    """Whether a call's result is no view of what it is given."""
    if node.op == "call_module":
        return isinstance(owner.get_submodule(str(node.target)), LINEAR)
    return node.target in ("clone", torch.clone)


def _write_out(node: torch.fx.Node, value: Any, users: list[torch.fx.Node]) -> None:
    for user in users:
        user.args, user.kwargs = torch.fx.node.map_arg(
            (user.args, user.kwargs), lambda argument: value if argument is node else argument
        )


def _update(kept: Tensor, compute: Callable[[], Tensor]) -> Callable[[], None]:
    def update() -> None:
        with torch.no_grad():
            kept.copy_(compute())

    return update


def _computation(owner: torch.fx.GraphModule, order: list[torch.fx.Node], last: torch.fx.Node) -> Callable[[], Any]:
    """Return a function that computes a constant node from the current weights.

    order: the nodes that it needs, each after its arguments. last: the constant node.
    """
    graph = torch.fx.Graph()
    copies: dict[torch.fx.Node, torch.fx.Node] = {}
    for node in order:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[last])
    return torch.fx.GraphModule(owner, graph)
