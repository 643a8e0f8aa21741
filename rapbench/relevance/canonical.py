"""A model as a flat graph in which every operation is a module, so that a rule is found by the module's type."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.constants import fold_constants
from rapbench.relevance.function_modules import MODULES
from rapbench.relevance.functional_calls import to_module
from rapbench.relevance.inplace import without_in_place
from rapbench.relevance.node_names import place
from rapbench.relevance.node_properties import shape_valued
from rapbench.relevance.plain import plain, twin
from rapbench.relevance.selecting import select_before_moving, split_layers
from rapbench.relevance.tracing import trace


@dataclass(frozen=True)
class Canonical:
    """A model as a canonical graph, and what to know of it.

    Parameters
    ----------
    graph_module : fx.GraphModule
        The graph; it shares the model's parameters.
    shaped : bool
        Whether it holds for inputs of one shape only.
    updates : tuple of callables
        Each computes a weight that is computed from the model's weights anew, in place.
    """

    graph_module: fx.GraphModule
    shaped: bool
    updates: tuple[Callable[[], None], ...]

    def update(self) -> None:
        """Compute anew what is computed from the model's weights, which may have changed."""
        for compute in self.updates:
            compute()


def canonical(model: nn.Module, inputs: Tensor | None = None, leaves: tuple[type[nn.Module], ...] = ()) -> Canonical:
    """Trace `model` into a graph of module calls; the model keeps its own modules and shares its parameters.

    Functional calls become modules (`function_modules.MODULES`); nothing works in place any more, since both directions
    need every activation as it was; `detach` is gone; weights that are computed from others are weights. The modules
    have no hooks. Auxiliary heads of a model in eval mode do not appear. Unknown operations are left unchanged.
    Whether the graph computes what the model computes is for `prepared` to see.

    Parameters
    ----------
    model : nn.Module
        In eval mode, of one input.
    inputs : Tensor, optional
        (N, ...), a batch of the size that the graph is for. Models that branch on it or compute with it need one, and
        it shows which tensors share memory where an operation works in place.
    leaves : tuple of types, optional
        Further module types that stay one node.

    Returns
    -------
    Canonical

    Raises
    ------
    RapbenchError
        When the model cannot be traced.
    """
    traced = trace(model, inputs, leaves)
    if inputs is not None and not traced.shaped and _computes_with_sizes(traced.graph_module.graph):
        traced = trace(model, inputs, leaves, shaped=True)
    result = traced.graph_module
    graph, updates = result.graph, []
    for target in {str(node.target): node for node in graph.nodes if node.op == "call_module"}:
        module, computed = plain(result.get_submodule(target), target)
        result.add_submodule(target, module)
        updates += computed
    updates += fold_constants(result, shape_valued(graph))
    shapes = shape_valued(graph)
    changing = without_in_place(result, shapes, inputs)
    select_before_moving(graph)
    for node in list(graph.nodes):
        if _detaches(node):
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op in ("call_function", "call_method") and node not in shapes:
            to_module(result, node, shapes)
        elif node.op == "call_module" and node in changing:
            module = twin(result.get_submodule(str(node.target)))
            module.inplace = False  # type: ignore[assignment]
            result.add_submodule(str(node.target), module)
    for node in [node for node in graph.nodes if node.target is torch._assert]:
        graph.erase_node(node)  # a traced assertion about a shape has done its work
    graph.eliminate_dead_code()
    split_layers(result)
    graph.eliminate_dead_code()
    graph.lint()
    result.recompile()
    return Canonical(result, traced.shaped, tuple(updates))


def _computes_with_sizes(graph: fx.Graph) -> bool:
    """Whether a module would have to be built with a size that is known only when the graph runs."""
    shapes = shape_valued(graph)
    return any(node.target in MODULES and not shapes.isdisjoint(node.all_input_nodes)
               for node in graph.nodes if node not in shapes)  # fmt: skip


def _detaches(node: fx.Node) -> bool:
    """Whether a node only says that no gradient is to go through it."""
    if node.target is getattr:
        return str(node.args[1]) == "data"
    return (node.op == "call_method" and node.target == "detach") or node.target is torch.detach


def own_modules(network: fx.GraphModule) -> fx.GraphModule:
    """Give each call in a canonical graph a module of its own, in place: hooks would mix the calls of a shared one.

    The further modules are copies which share the parameters.
    """
    seen: set[str] = set()
    for node in network.graph.nodes:
        if node.op == "call_module":
            if node.target in seen:
                copied = twin(network.get_submodule(node.target))
                node.target = f"_again_{node.name}"
                network.add_submodule(node.target, copied)
            seen.add(node.target)
    network.recompile()
    return network


def refuse_batch_statistics(network: fx.GraphModule) -> None:
    """Raise RapbenchError for a batch norm that normalises by the batch it is in."""
    for node in network.graph.nodes:
        module = network.get_submodule(node.target) if node.op == "call_module" else None
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise RapbenchError(
                f"{type(module).__name__} at {place(node)} has no running statistics: its output depends on the other "
                "images of the batch; set track_running_stats=True and calibrate it"
            )
