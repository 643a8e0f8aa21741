"""What is known of a canonical graph's nodes before it runs: shapes or signals, and which are never negative."""

import operator

from timm.layers.pool2d_same import AvgPool2dSame, MaxPool2dSame
from torch import fx, nn

from rapbench.relevance.inplace import IN_PLACE
from rapbench.relevance.operations import NONNEGATIVE, POOLS, RESHAPES, TRANSPARENT, Add, Cat, Gate, Mean, Pad, Part
from rapbench.relevance.tracing import SHAPE_ATTRIBUTES, SHAPES

# What keeps numbers numbers.
_ARITHMETIC = {
    operator.getitem, operator.add, operator.sub, operator.mul, operator.floordiv, operator.truediv, operator.mod,
    operator.pow, operator.neg, operator.eq, operator.ne, operator.lt, operator.gt, operator.le, operator.ge,
    int, float, bool, *IN_PLACE,
}  # fmt: skip


def shape_valued(graph: fx.Graph) -> set[fx.Node]:
    """Return the nodes that compute shapes or numbers, which carry no relevance."""
    found: set[fx.Node] = set()
    for node in graph.nodes:
        asks = node.target in SHAPES or (node.target is getattr and node.args[1] in SHAPE_ATTRIBUTES)
        inputs = node.all_input_nodes
        if asks or (node.target in _ARITHMETIC and inputs and all(argument in found for argument in inputs)):
            found.add(node)
    return found


def signals(node: fx.Node, shapes: set[fx.Node]) -> list[fx.Node]:
    """Return a node's tensor inputs, in order and with repetitions."""
    found: list[fx.Node] = []
    fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
    return [argument for argument in found if argument not in shapes]


def nonnegative(network: fx.GraphModule) -> set[fx.Node]:
    """Return the nodes of a canonical graph whose values are never negative, whatever the input is."""
    found: set[fx.Node] = set()
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
