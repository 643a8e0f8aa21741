"""A model as a graph of modules that Captum's hooks see whole.

Captum hangs its rules on modules, by hooks on the tensors that they read and return. What it gets wrong, silently:
functions; a module that is called twice; a tensor with two readers, where the rule of one replaces the gradient of
both; and a tensor that goes straight from one ruled module to the next, where the first one's hook comes too early.
Here each call is a module of its own and reads a view of its own.
"""

import operator
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.target import target_logits
from rapbench.relevance.canonical import Canonical, canonical, own_modules
from rapbench.relevance.graph_cache import prepared
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.node_properties import shape_valued
from rapbench.relevance.operations import (
    MOVES,
    PADS,
    REARRANGES,
    RESHAPES,
    UPSAMPLES,
    Add,
    Cat,
    Constant,
    Interpolate,
    Mean,
    Pad,
    Part,
)
from rapbench.relevance.plain import twin

# Modules that are affine in what they read, in eval mode.
AFFINE = (
    Add, Cat, Mean, nn.Linear, nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.Identity,
    nn.modules.dropout._DropoutNd, nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd, nn.Flatten,
    nn.Unflatten, Interpolate, Pad, Part, *UPSAMPLES, *MOVES, *PADS,
)  # fmt: skip
# Functions and methods that move, repeat or drop elements, so that relevance goes back where it came from,
PLACES = RESHAPES | REARRANGES | {torch.chunk, torch.split, torch.stack, "chunk", "split", "expand"}
# and those that are affine in all their tensors together.
SUMS = {operator.sub, operator.neg, torch.sub, torch.neg, torch.sum, "sub", "neg", "sum"}

Swap = Callable[[nn.Module], nn.Module | None]


class Hookable(nn.Module):
    """A graph as Captum wants it: (inputs, targets) -> the targets' logits, (N,)."""

    def __init__(self, canonical: Canonical):
        super().__init__()
        self.canonical, self.network, self.shaped = canonical, canonical.graph_module, canonical.shaped

    def logits(self, inputs: Tensor) -> Tensor:
        """Return all logits, (N, classes)."""
        logits: Tensor = self.network(inputs)
        return logits

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the logits that are explained."""
        return target_logits(self.network(inputs), targets)


def hookable(
    model: nn.Module, inputs: Tensor, method: str, takes: str, swap: Swap, arithmetic: bool = True
) -> Hookable:
    """Return `model` as a graph for Captum; it shares the model's parameters, but neither its hooks nor attributes.

    swap: from a copy of a module that is called to what stands for it; None where the method has no rule for it.
    arithmetic: whether affine functions may occur as well as those that move elements. method, takes: for the message.
    Raises RapbenchError that names the first operation without a rule, and its place, and where the graph's logits are
    not the model's.
    """
    return prepared(model, inputs, method, lambda: _hookable(model, inputs, method, takes, swap, arithmetic))


def _hookable(model: nn.Module, inputs: Tensor, method: str, takes: str, swap: Swap, arithmetic: bool) -> Hookable:
    found = canonical(model, inputs)
    network = found.graph_module
    shapes = shape_valued(network.graph)
    signals: set[torch.fx.Node] = set()
    for node in network.graph.nodes:
        reads_signal = node not in shapes and not signals.isdisjoint(node.all_input_nodes)
        if reads_signal or node.op in ("placeholder", "call_module"):
            signals.add(node)
        if node.op == "call_module":
            known = swap(_copied(network.get_submodule(node.target))) is not None
        else:
            known = node.op == "output" or not reads_signal or _known(node, arithmetic)
        if not known:
            raise RapbenchError(
                f"{method} supports {takes}; it has no rule for {operation(network, node)} at {place(node)}; choose "
                "another method for this model"
            )
    for node in [node for node in own_modules(network).graph.nodes if node.op == "call_module"]:
        stand_in: Any = swap(_copied(network.get_submodule(node.target)))
        network.add_submodule(node.target, stand_in)
        with network.graph.inserting_before(node):
            tensors = (*node.args, *node.kwargs.values())
            node.args = tuple(network.graph.call_method("view_as", (tensor, tensor)) for tensor in tensors)
        node.kwargs = {}
    network.delete_all_unused_submodules()
    network.recompile()
    return Hookable(found)


def affine(module: nn.Module) -> bool:
    """Whether a module is affine; a batch norm without running statistics is not."""
    if isinstance(module, Constant):
        division = module.operation is operator.truediv and not module.first  # c / x is not
        return division or module.operation in (operator.add, operator.sub, operator.mul)
    is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return of(module, AFFINE) and not (is_norm and module.running_mean is None)


def of(module: nn.Module, kinds: tuple[type[nn.Module], ...]) -> bool:
    """Whether a module is of one of these kinds; torch.ao's subclasses compute something else."""
    return isinstance(module, kinds) and not type(module).__module__.startswith("torch.ao.")


def _known(node: torch.fx.Node, arithmetic: bool) -> bool:
    """Whether a function or method that reads signals moves them or, with `arithmetic`, is affine in them."""
    if node.target in PLACES:
        return True
    return arithmetic and node.target in SUMS


def _copied(module: nn.Module) -> nn.Module:
    """Return a copy with the same parameters and without the user's hooks: with one, Captum would leave it out."""
    copied = twin(module)
    copied._backward_hooks = OrderedDict()
    return copied
