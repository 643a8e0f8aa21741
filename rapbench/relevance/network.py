"""A model made ready for relevance: its graph, what each operation's rule needs to know, and its forward pass."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn

import rapbench.relevance.norm
import rapbench.relevance.pooling
import rapbench.relevance.rap
import rapbench.relevance.wiring  # noqa: F401  the built-in rules register themselves
from rapbench.core.errors import RapbenchError
from rapbench.relevance import images
from rapbench.relevance.canonical import canonical, refuse_batch_statistics
from rapbench.relevance.head import ending, refuse_unclear_ending
from rapbench.relevance.images import Pass
from rapbench.relevance.linear import LINEAR
from rapbench.relevance.merging import fold_norms, merge_padding
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.node_properties import nonnegative, shape_valued, signals
from rapbench.relevance.operations import (
    MOVES,
    NORMS,
    REARRANGES,
    RESHAPES,
    TRANSPARENT,
    UPSAMPLES,
    Add,
    Cat,
    Constant,
    Gate,
    Interpolate,
    MatMul,
    Pad,
    Part,
)
from rapbench.relevance.rules import RULES, Rules

# Modules that always return a tensor of their own.
FRESH = (nn.modules.batchnorm._BatchNorm, *LINEAR, Add)
BUILT_IN = frozenset(RULES)


class Network:
    """A model made ready for relevance: traced, every operation matched with its rule, or refused.

    Parameters
    ----------
    model : nn.Module
        In eval mode, of one input, (N, ...), and logits (N, classes).
    inputs : Tensor, optional
        A batch of the size that the graph is for, see `canonical`.
    rules : Rules
        By module type. Where they have one for the last linear layer, every way to the output goes through one, and
        what stands above it has built-in rules.

    Raises
    ------
    RapbenchError
        Names the operation that has no rule and its place, before anything is computed.
    """

    def __init__(self, model: nn.Module, inputs: Tensor | None = None, rules: Rules = RULES):
        self.rules = rules
        self.canonical = canonical(model, inputs, leaves=tuple(rules))
        self.graph_module = self.canonical.graph_module
        self.graph = self.graph_module.graph
        self.shaped = self.canonical.shaped
        refuse_batch_statistics(self.graph_module)
        merge_padding(self.graph_module)
        self.folds = fold_norms(self.graph_module) if rules.folds else []
        self.modules = dict(self.graph_module.named_modules())
        self.shapes = shape_valued(self.graph)
        self.input = next(node for node in self.graph.nodes if node.op == "placeholder")
        self.output = next(node for node in self.graph.nodes if node.op == "output")
        self.varying = self._varying()
        heads, above = ending(self.graph_module, self._takers)
        self.above = above | heads if rules.head else set()
        self.heads = heads if rules.head else set()
        self.path = self._path()
        joining = {argument for node in self.path for argument in node.all_input_nodes if argument in self.varying}
        self.in_rows = joining.union(self.path)  # must keep the images of a batch apart
        self._refuse_unknown()
        if rules.head:
            refuse_unclear_ending(
                self.graph_module, heads, above, lambda module: type(module) in BUILT_IN, self._takers
            )
        self.like_input = self._like_input()
        self.nonnegative = nonnegative(self.graph_module)
        self.last_reader: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            self.last_reader |= dict.fromkeys(node.all_input_nodes, node)
        kept: set[fx.Node] = set()  # activations that the way back needs
        for node in self.path:
            if node.op == "call_module" and rules.needs_inputs(self.modules[str(node.target)]):
                kept.update(node.all_input_nodes)
        self.held = kept | self.shapes
        # ReLUs that alone read the fresh tensor which they are given, and which the way back does not need
        self.overwrites = {
            node
            for node in self.path
            if type(self.modules.get(str(node.target))) is nn.ReLU
            and isinstance(self.modules.get(str(node.all_input_nodes[0].target)), FRESH)
            and len(node.all_input_nodes[0].users) == 1
            and node.all_input_nodes[0] not in kept
        }
        self.checked: set[torch.Size] = set()

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the graph's output for (N, ...) inputs."""
        with self.folded():
            return self.forward(inputs).logits

    def forward(self, inputs: Tensor) -> Pass:
        """Run the graph on (N, ...) inputs, keeping only what the way back needs.

        Raises RapbenchError for a network that does not keep the images of a batch apart, or does not give logits.
        """
        values: dict[fx.Node, Any] = {}
        shapes: dict[fx.Node, torch.Size] = {}
        for node in self.graph.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            match node.op:
                case "placeholder":
                    value = inputs if node is self.input else node.args[0] if node.args else None
                case "get_attr":
                    value = fx.graph_module._get_attr(self.graph_module, node.target)
                case "call_module":
                    in_place = node in self.overwrites and args
                    value = args[0].relu_() if in_place else self.modules[node.target](*args, **kwargs)
                case "call_function":
                    value = node.target(*args, **kwargs)
                case "call_method":
                    value = getattr(args[0], node.target)(*args[1:], **kwargs)
                case _:
                    value = args[0]
            values[node] = value
            if isinstance(value, Tensor):
                shapes[node] = value.shape
            if node in self.in_rows and inputs.shape not in self.checked:
                apart = isinstance(value, Tensor) and value.dim() > 0 and len(value) % len(inputs) == 0
                if apart and node.target in REARRANGES:
                    apart = images.keeps_images(self.call(node, values), args[0], len(inputs))
                if not apart:
                    raise RapbenchError(
                        f"{operation(self.graph_module, node)} at {place(node)} does not keep the images of a batch "
                        "apart in the first dimension, as relevance rules need it; write the model so that it does"
                    )
            for argument in node.all_input_nodes:
                if self.last_reader[argument] is node and argument not in self.held:
                    del values[argument]
        self.checked.add(inputs.shape)
        if not isinstance(value, Tensor) or value.dim() != 2:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise RapbenchError(f"relevance starts from logits of shape (N, classes), but the model returns {got}")
        return Pass(values, shapes, value, value.new_zeros(len(value)))

    @contextmanager
    def folded(self) -> Iterator[None]:
        """Fold the batch norms as they are now, once for all that is computed inside."""
        try:
            for layer in self.folds:
                layer.computed = layer.fold()
            yield
        finally:
            for layer in self.folds:
                layer.computed = None

    def call(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        """Return a node's function or method as one of its first argument, the others from `values`."""
        args, kwargs = fx.node.map_arg((node.args[1:], node.kwargs), lambda argument: values[argument])
        target: Any = node.target if node.op == "call_function" else getattr(Tensor, str(node.target))
        return lambda x: target(x, *args, **kwargs)

    def _varying(self) -> set[fx.Node]:
        """The nodes whose values depend on the network's input, shapes aside."""
        found = {self.input}
        for node in self.graph.nodes:
            if node not in self.shapes and not found.isdisjoint(node.all_input_nodes):
                found.add(node)
        return found

    def _takers(self, node: fx.Node) -> list[fx.Node]:
        """Those of a node's inputs that take relevance: no gates, no constants; attention where rules ask."""
        arguments = signals(node, self.shapes)
        module = self.modules.get(str(node.target))
        if isinstance(module, Gate):
            arguments = arguments[:1]
        elif isinstance(module, MatMul) and module.values is not None and not self.rules.bilinear:
            arguments = [arguments[module.values]]
        return [argument for argument in arguments if argument in self.varying]

    def _like_input(self) -> set[fx.Node]:
        """The network's input, and what comes from it by moving, resizing, padding and rescaling it."""
        found = {self.input}
        changes_little = (
            *TRANSPARENT, *MOVES, *UPSAMPLES, *NORMS, nn.Flatten, nn.Unflatten, Constant, Cat, Pad, Part, Interpolate,
        )  # fmt: skip
        for node in self.path:
            small = isinstance(self.modules.get(str(node.target)), changes_little) or node.op != "call_module"
            if small and all(argument in found for argument in self._takers(node)):
                found.add(node)
        return found

    def _path(self) -> list[fx.Node]:
        """The nodes between the input and the output that carry relevance, in forward order."""
        above = {self.output.args[0]}
        for node in reversed(self.graph.nodes):
            if node in above:
                above.update(self._takers(node))
        if self.input not in above:
            raise RapbenchError("the model's output does not depend on its input, so there is nothing to explain")
        return [node for node in self.graph.nodes if node in above and node.op not in ("placeholder", "get_attr")]

    def _refuse_unknown(self) -> None:
        for node in self.path:
            if node.op == "call_module":
                module = self.modules[str(node.target)]
                further = len(node.args) + len(node.kwargs) > 1  # such as a transposed convolution's output size
                if self.rules.knows(module) and not (isinstance(module, LINEAR) and further):
                    continue
            elif node.target in RESHAPES | REARRANGES and len(self._takers(node)) == 1:
                continue
            what = operation(self.graph_module, node)
            raise RapbenchError(
                f"no relevance rule for {what} at {place(node)}; put the operation in an nn.Module of its own and "
                "register a rule for it with @rapbench.relevance.rule(ThatModule)"
            )
