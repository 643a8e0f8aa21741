"""A VGG-type network as one chain of modules with its batch norms folded: the form that has patterns here."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.model import Model
from rapbench.relevance.canonical import Canonical, canonical, own_modules, refuse_batch_statistics
from rapbench.relevance.graph_cache import prepared
from rapbench.relevance.linear import Folded, groups, innermost
from rapbench.relevance.merging import fold_norms
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.node_properties import shape_valued, signals
from rapbench.relevance.operations import (
    MOVES,
    PADS,
    POOLS,
    REARRANGES,
    RESHAPES,
    TRANSPARENT,
    UPSAMPLES,
    Interpolate,
    Mean,
    Pad,
    Sum,
)

LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
# What a ReLU can come after as well as before, since it closes for the same units; so with resizing by copies.
CLOSES_ALIKE = (*TRANSPARENT, nn.Flatten, nn.Unflatten, nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, Pad, *PADS, *MOVES)
AVERAGES = (*POOLS["average"], Mean, Sum)
RESIZES = (Interpolate, *UPSAMPLES)


@dataclass(frozen=True)
class Chain:
    """A network in eval mode that computes what the user's does and shares its parameters, but for folded norms.

    layers: its convolutions and fully connected layers by name, first to last. rectified: the names of those whose
    units end in a ReLU.
    """

    graph: fx.GraphModule
    layers: dict[str, nn.Module]
    rectified: frozenset[str]

    def run(self, inputs: Tensor, call: Callable[[str, Tensor], Tensor]) -> Tensor:
        """Return the network's output for `inputs`, with call(name, x) in place of each of `layers`."""
        output: Tensor = _Calls(self, call).run(inputs)
        return output


class _Calls(fx.Interpreter):
    """Runs a graph module by module and forgets what is not needed any more."""

    def __init__(self, network: Chain, call: Callable[[str, Tensor], Tensor]):
        super().__init__(network.graph)
        self.layers, self.call = network.layers, call
        self.extra_traceback = False

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if target in self.layers:
            return self.call(target, *args, *kwargs.values())
        return super().call_module(target, args, kwargs)


@dataclass(frozen=True)
class Traced:
    """A network's graph, each call a module of its own, before its norms are folded."""

    canonical: Canonical

    @property
    def shaped(self) -> bool:
        """Whether it holds for inputs of one shape only."""
        return self.canonical.shaped

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the logits with the norms folded, for (N, ...) inputs."""
        logits: Tensor = self.folded()(inputs)
        return logits

    def folded(self) -> fx.GraphModule:
        """Return a graph with the norms folded as they are now."""
        graph = fx.Graph()
        whole = self.canonical.graph_module
        graph.output(graph.graph_copy(whole.graph, {}))
        network = fx.GraphModule(whole, graph)
        names = {node: str(node.target) for node in graph.nodes}
        layers: dict[nn.Module, Folded] = {layer: layer for layer in fold_norms(network)}
        for node in graph.nodes:  # a layer keeps its name, which its patterns are found by
            layer = layers.get(network.get_submodule(node.target)) if node.op == "call_module" else None
            if layer is not None:
                network.delete_submodule(node.target)
                node.target = names[node]
                network.add_submodule(node.target, layer)
                layer.computed = layer.fold()
        network.recompile()
        return network


def chain(model: nn.Module, inputs: Tensor | None = None) -> Chain:
    """Return a model in eval mode as a chain; RapbenchError names a module that is no part of one, and its place.

    Known are convolutions without groups, fully connected layers, ReLU, maximum and average pooling, reshapes, dropout,
    and batch norms right after a convolution or fully connected layer. Of a zoo model it is the network inside.
    inputs: (N, ...), to see on, once, that it gives the model's logits.
    """
    model = model.network if isinstance(model, Model) else model

    def trace() -> Traced:  # calls of one module are told apart before a norm is folded into it
        found = canonical(model, inputs)
        own_modules(found.graph_module)
        refuse_batch_statistics(found.graph_module)
        if found.shaped:
            raise RapbenchError(f"{type(model).__name__} computes with its inputs' size; patterns are for any size")
        return Traced(found)

    graph: Any = (trace() if inputs is None else prepared(model, inputs, Traced, trace)).folded()
    modules = dict(graph.named_modules())
    layers: dict[str, nn.Module] = {}
    rectified = set()
    relu_follows = False
    unknown = None
    for node in _way_back(graph):
        name = str(node.target)
        module = modules[name] if node.op == "call_module" else None
        kind = type(innermost(module))
        if module and kind in LINEAR and groups(module) == 1:
            layers[name] = module
            if relu_follows:
                rectified.add(name)
            relu_follows = False
        elif kind is nn.ReLU:
            relu_follows = True
        elif kind in AVERAGES or (isinstance(module, RESIZES) and not module.mode.startswith("nearest")):
            relu_follows = False
        elif kind not in (*CLOSES_ALIKE, *RESIZES) and (module or node.target not in RESHAPES | REARRANGES):
            unknown = node
    if unknown is not None:  # the first on the way forward: what follows, such as the part of a tuple, is its own
        raise _refused(graph, unknown)
    if not layers:
        raise RapbenchError("PatternNet's patterns belong to convolutions and fully connected layers, here are none")
    return Chain(graph, dict(reversed(layers.items())), frozenset(rectified))


def _way_back(graph: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes from the output to the input; RapbenchError when it is not a single way."""
    shapes = shape_valued(graph.graph)
    node = next(node for node in graph.graph.nodes if node.op == "output").args[0]
    if not isinstance(node, fx.Node):
        raise RapbenchError("PatternNet's patterns are defined here for networks with one output, the logits")
    found: list[fx.Node] = []
    while node.op != "placeholder":
        inputs = signals(node, shapes)
        if len(inputs) != 1:
            raise _refused(graph, node)
        found.append(node)
        node = inputs[0]
    return found


def _refused(graph: fx.GraphModule, node: fx.Node) -> RapbenchError:
    name = operation(graph, node)
    module = graph.get_submodule(str(node.target)) if node.op == "call_module" else None
    if type(innermost(module)) in LINEAR:
        name = f"{type(innermost(module)).__name__} with groups"
    elif isinstance(module, Folded):
        name = type(innermost(module)).__name__
    return RapbenchError(
        "PatternNet's patterns are defined here for VGG-type networks: convolutions, fully connected layers, ReLU and "
        f"pooling, one after another; {name} at {place(node)} does not belong"
    )
