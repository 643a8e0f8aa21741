"""How a network ends: its last linear layers, which the first propagation goes through, and what stands above them."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.linear import LINEAR
from rapbench.relevance.node_names import operation, place

# What makes probabilities of logits.
PROBABILITIES = (nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin, nn.Sigmoid, nn.LogSigmoid, nn.Hardsigmoid)
PROBABILITY_FUNCTIONS = {
    F.softmax, F.log_softmax, F.softmin, F.logsigmoid, torch.softmax, torch.log_softmax, "softmax", "log_softmax",
}  # fmt: skip


def ending(network: fx.GraphModule, signals: Callable[[fx.Node], list[fx.Node]]) -> tuple[set[fx.Node], set[fx.Node]]:
    """Return the last linear layers, behind which no other comes on the way to the output, and all nodes above them.

    signals: from a node to those of its inputs that take relevance.
    Raises RapbenchError for a network that ends in probabilities, which are no logits, or in several tensors.
    """
    output = next(node for node in network.graph.nodes if node.op == "output")
    if not isinstance(output.args[0], fx.Node):
        raise RapbenchError("relevance starts from logits of shape (N, classes), but the model returns several tensors")
    heads, above = set(), set()
    waiting = [output.args[0]]
    while waiting:
        node = waiting.pop()
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, LINEAR):
            heads.add(node)
            continue
        if isinstance(module, PROBABILITIES) or node.target in PROBABILITY_FUNCTIONS:
            raise RapbenchError(
                f"the model ends in {operation(network, node)} at {place(node)}, but relevance starts from the logits "
                "before it: explain the model without it, for example with torch.nn.Identity() in its place"
            )
        if node not in above:
            above.add(node)
            waiting += signals(node)
    return heads, above


def refuse_unclear_ending(
    network: fx.GraphModule,
    heads: set[fx.Node],
    above: set[fx.Node],
    built_in: Callable[[nn.Module], bool],
    signals: Callable[[fx.Node], list[fx.Node]],
) -> None:
    """Raise RapbenchError unless every way from the output to the input goes through one last linear layer.

    And unless all that stands above these layers is known not to be linear itself: built_in tells the modules that are.
    """
    below: set[fx.Node] = set()
    waiting = [argument for head in heads for argument in signals(head)]
    while waiting:
        node = waiting.pop()
        if node not in below:
            below.add(node)
            waiting += signals(node)
    for node in network.graph.nodes:
        if node not in above and node not in heads:
            continue
        module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
        starts = "RAP's first propagation goes through the last linear layer, which gives the logits"
        if node.op == "placeholder":
            raise RapbenchError(f"{starts}, but from the model's input to its output a way goes through none")
        if node in below:
            raise RapbenchError(
                f"{starts}, but {operation(network, node)} at {place(node)} leads to the output both through one and "
                "beside it"
            )
        if module is not None and not built_in(module):
            raise RapbenchError(
                f"{starts}; whether {operation(network, node)} at {place(node)} is one is not known, as its rule is "
                "not built in; choose another method for this model"
            )
