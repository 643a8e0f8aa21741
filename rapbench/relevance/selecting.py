"""Queries, keys and values that one layer computes together, taken apart, so that each is a layer of its own."""

import math
import operator
from typing import Any

import torch
from torch import fx, nn

PERMUTES = {torch.permute, "permute"}
UNBINDS = {torch.unbind, "unbind"}


def select_before_moving(graph: fx.Graph) -> None:
    """Write x.permute(2, 0, 3, 1, 4)[i] and its .unbind(0)[i] as x.select(2, i).permute(0, 2, 1, 3), in place.

    So the first dimension stays the images'. A permuted tensor that others read, or that is taken from along
    another dimension than the first, stays as it is.
    """
    for node in list(graph.nodes):
        order = _order(node)
        if order is None or order[0] == 0:
            continue
        taken = _taken(node)
        if taken is None:
            continue
        front, rest = order[0], order[1:]
        moved = tuple(dimension - (dimension > front) for dimension in rest)
        for user, index in taken:
            with graph.inserting_before(user):
                one = graph.call_method("select", (node.args[0], front, index))
                new = graph.call_method("permute", (one, *moved))
            for made in (one, new):
                made.meta.update(user.meta)
            user.replace_all_uses_with(new)


def _order(node: fx.Node) -> tuple[int, ...] | None:
    """Return what a permutation's dimensions become of; None for another operation."""
    if node.target not in PERMUTES or node.kwargs:
        return None
    dims: Any = node.args[1] if isinstance(node.args[1], (tuple, list)) else node.args[1:]
    if not all(isinstance(one, int) for one in dims):
        return None
    return tuple(one % len(dims) for one in dims)


def _taken(node: fx.Node) -> list[tuple[fx.Node, int]] | None:
    """Return the nodes that each take one part along the first dimension, and which; None with other readers."""
    found: list[tuple[fx.Node, int]] = []
    for user in node.users:
        if user.target in UNBINDS and tuple(user.args[1:]) in ((), (0,)) and not user.kwargs.get("dim", 0):
            parts = list(user.users)
        else:
            parts = [user]
        for part in parts:
            index = part.args[1] if part.target is operator.getitem else None
            if not isinstance(index, int) or part.kwargs:
                return None
            found.append((part, index))
    return found


def split_layers(owner: fx.GraphModule) -> None:
    """Write linear(x).reshape(..., 3, heads, size).select(-3, i) as a layer of the outputs of i alone, in place.

    Its outputs are those of a part of the weights. RAP corrects a layer's outputs for their biases: queries and keys,
    which take no relevance, are then not among them.
    """
    for node in list(owner.graph.nodes):
        layer = owner.get_submodule(node.target) if node.op == "call_module" else None
        reshapes = list(node.users)
        if type(layer) is not nn.Linear or len(node.args) != 1 or len(reshapes) != 1:
            continue
        (reshape,) = reshapes
        found = _parts(reshape, layer.out_features)
        if found is None:
            continue
        axis, sizes = found
        width = math.prod(sizes[axis + 1 :])
        for user in list(reshape.users):
            index = user.args[2] % sizes[axis]
            part = nn.Linear(layer.in_features, width, device="meta")
            outputs = slice(index * width, (index + 1) * width)
            part.weight = nn.Parameter(layer.weight[outputs], False)
            part.bias = None if layer.bias is None else nn.Parameter(layer.bias[outputs], False)
            name = f"{node.target}_part{index}".replace(".", "_")
            owner.add_submodule(name, part.eval())
            with owner.graph.inserting_before(user):
                call = owner.graph.call_module(name, node.args)
                new = owner.graph.call_method("reshape", (call, *sizes[:axis], *sizes[axis + 1 :]))
            for made in (call, new):
                made.meta.update(node.meta)
            user.replace_all_uses_with(new)


def _parts(reshape: fx.Node, outputs: int) -> tuple[int, tuple[Any, ...]] | None:
    """Return the axis of a reshaped layer's outputs that all readers select along, and the sizes; None otherwise."""
    if reshape.target not in ("reshape", "view") or reshape.kwargs or not reshape.users:
        return None
    sizes: Any = reshape.args[1] if isinstance(reshape.args[1], (tuple, list)) else reshape.args[1:]
    axes = {user.args[1] if user.target == "select" and not user.kwargs else None for user in reshape.users}
    axis = next(iter(axes))
    if len(axes) != 1 or not isinstance(axis, int) or axis < 1:
        return None
    last = sizes[axis:]
    if not all(isinstance(size, int) and size > 0 for size in last) or math.prod(last) != outputs:
        return None
    return axis, tuple(sizes)
