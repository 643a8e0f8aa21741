"""Queries, keys and values taken from one tensor before it is permuted: so its first dimension stays the images'."""

import operator
from typing import Any

import torch
from torch import fx

PERMUTES = {torch.permute, "permute"}
UNBINDS = {torch.unbind, "unbind"}


def select_before_moving(graph: fx.Graph) -> None:
    """Write x.permute(2, 0, 3, 1, 4)[i] and its .unbind(0)[i] as x.select(2, i).permute(0, 2, 1, 3), in place.

    A permuted tensor with other readers, or with another dimension in front than is taken from, stays as it is.
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
