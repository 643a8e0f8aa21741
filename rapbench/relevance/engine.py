"""Run a model forward once and take both of RAP's flows back through the activations it left."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

import rapbench.relevance.linear
import rapbench.relevance.norm
import rapbench.relevance.pooling
import rapbench.relevance.wiring  # noqa: F401  the built-in rules register themselves
from rapbench.errors import RapbenchError
from rapbench.relevance.canonical import RESHAPES, canonical, place, shape_valued
from rapbench.relevance.linear import first_propagation, sum_of
from rapbench.relevance.rules import KEEPS_INPUTS, RULES, Options, Step, rule

FLOWS = {"normal": 1, "inversion": -1}
__all__ = ["FLOWS", "Balance", "Network", "rule"]


@dataclass(frozen=True)
class Balance:
    """The books of one module call in one flow, (N,) each: relevance_out = relevance_in + dropped, to rounding.

    relevance_out is what came from above, relevance_in what went to the inputs.
    """

    place: str
    flow: str
    relevance_out: Tensor
    relevance_in: Tensor
    dropped: Tensor


class Network:
    """A model made ready for relevance: traced, every operation matched with its rule, or refused.

    The model must be in eval mode and end in a fully connected layer (reshapes and dropout may follow it).
    Raises RapbenchError that names the operation and its place before anything is computed.
    """

    def __init__(self, model: nn.Module):
        self.graph_module = canonical(model, leaves=tuple(RULES))
        self.graph = self.graph_module.graph
        self.modules = dict(self.graph_module.named_modules())
        self.shapes = shape_valued(self.graph)
        placeholders = [node for node in self.graph.nodes if node.op == "placeholder"]
        self.input = placeholders[0]
        self.head = self._head()
        self.features = self.head.all_input_nodes[0]
        self.path = self._path()
        self._refuse_unknown()
        self.keep = {
            argument
            for node in self.path
            if node.op != "call_module" or KEEPS_INPUTS[type(self.modules[node.target])]
            for argument in node.all_input_nodes
        } | set(self.head.all_input_nodes)

    def relevance(
        self, inputs: Tensor, targets: Tensor, options: Options, flows: tuple[str, ...], balance: list[Balance] | None
    ) -> Tensor:
        """Return the relevance of each input element, summed over the flows asked for (RAP eq. 5, 7-11).

        inputs: (N, ...) as the model takes them. targets: (N,) class indices. balance: a list to append the books to.
        Returns a tensor shaped like `inputs`.
        """
        with torch.no_grad():
            values, logits = self._forward(inputs)
            if targets.max() >= logits.shape[1]:
                raise RapbenchError(f"target {targets.max()} is out of range: the model has {logits.shape[1]} classes")
            head = self.modules[self.head.target]
            start = first_propagation(
                values[self.features], head.weight[targets], logits.gather(1, targets[:, None])[:, 0]
            )
            return sum_of(self._backward(values, start, options, flows, balance).values())

    def _forward(self, inputs: Tensor) -> tuple[dict[fx.Node, Any], Tensor]:
        """Run the graph; return the values that the way back needs, and the logits."""
        values: dict[fx.Node, Any] = {}
        last_use = {argument: node for node in self.graph.nodes for argument in node.all_input_nodes}
        for node in self.graph.nodes:
            args, kwargs = fx.node.map_arg((node.args, node.kwargs), values.__getitem__)
            match node.op:
                case "placeholder":
                    values[node] = inputs if node is self.input else node.args[0] if node.args else None
                case "get_attr":
                    values[node] = fx.graph_module._get_attr(self.graph_module, node.target)
                case "call_module":
                    values[node] = self.modules[node.target](*args, **kwargs)
                case "call_function":
                    values[node] = node.target(*args, **kwargs)
                case "call_method":
                    values[node] = getattr(args[0], node.target)(*args[1:], **kwargs)
                case "output":
                    logits = args[0]
            for argument in node.all_input_nodes:
                if last_use[argument] is node and argument not in self.keep:
                    del values[argument]
        return values, logits

    def _backward(
        self,
        values: dict[fx.Node, Any],
        start: Tensor,
        options: Options,
        flows: tuple[str, ...],
        balance: list[Balance] | None,
    ) -> dict[str, Tensor]:
        relevance: dict[fx.Node, dict[str, Tensor]] = {self.features: dict.fromkeys(flows, start)}
        for node in reversed(self.path):
            arrived = relevance.pop(node, None)
            if arrived is None:
                continue
            inputs: tuple[Any, ...] = tuple(values.get(argument) for argument in self._signals(node))
            step = Step(self.modules.get(node.target), inputs, self._is_first(node), options)  # type: ignore[arg-type]
            step.count_dropped = balance is not None
            for flow, out in arrived.items():
                if node.op == "call_module":
                    handed = RULES[type(step.module)](step, out, FLOWS[flow])
                else:
                    handed = (out.reshape(inputs[0].shape),)
                for argument, part in zip(self._signals(node), handed, strict=True):
                    sums = relevance.setdefault(argument, {})
                    sums[flow] = sums[flow] + part if flow in sums else part
                if balance is not None:
                    total_in = sum(part.flatten(1).sum(1) for part in handed)
                    total_out = out.flatten(1).sum(1)
                    dropped = torch.zeros_like(total_out) + step.dropped
                    balance.append(Balance(place(node), flow, total_out, total_in, dropped))  # type: ignore[arg-type]
                    step.dropped = 0.0
            values.pop(node, None)
        return relevance[self.input]

    def _signals(self, node: fx.Node) -> list[fx.Node]:
        """A node's tensor inputs, in order and with repetitions."""
        found: list[fx.Node] = []
        fx.node.map_arg((node.args, node.kwargs), lambda n: found.append(n) or n)  # type: ignore[func-returns-value]
        return [argument for argument in found if argument not in self.shapes]

    def _is_first(self, node: fx.Node) -> bool:
        """Whether a node's input is the network's input, but for reshapes and modules that change nothing."""
        argument = node.all_input_nodes[0]
        while argument.op != "placeholder":
            passes = isinstance(self.modules.get(argument.target), (nn.Identity, nn.Dropout))
            if not passes and argument.target not in RESHAPES:
                return False
            argument = argument.all_input_nodes[0]
        return True

    def _head(self) -> fx.Node:
        output = next(node for node in self.graph.nodes if node.op == "output")
        node = output.args[0]
        while isinstance(node, fx.Node):
            module = self.modules.get(node.target) if node.op == "call_module" else None
            if isinstance(module, nn.Linear):
                return node
            passes = isinstance(module, (nn.Identity, nn.Dropout, nn.Flatten)) or node.target in RESHAPES
            if not passes or not node.all_input_nodes:
                break
            node = node.all_input_nodes[0]
        where = place(node) if isinstance(node, fx.Node) else "its output"
        raise RapbenchError(
            f"RAP starts from a last fully connected layer that gives the logits, but the model ends in {where}"
        )

    def _path(self) -> list[fx.Node]:
        """The nodes between the input and the head that carry relevance, in forward order."""
        above = {self.features}
        for node in reversed(self.graph.nodes):
            if node in above:
                above.update(argument for argument in node.all_input_nodes if argument not in self.shapes)
        return [node for node in self.graph.nodes if node in above and node.op not in ("placeholder", "get_attr")]

    def _refuse_unknown(self) -> None:
        for node in self.path:
            if node.op == "call_module":
                module = self.modules[node.target]
                if type(module) in RULES:
                    continue
                what = type(module).__name__
            elif node.target in RESHAPES:
                continue
            else:
                what = getattr(node.target, "__name__", str(node.target))
            raise RapbenchError(
                f"no relevance rule for {what} at {place(node)}; put the operation in an nn.Module of its own and "
                "register a rule for it with @rapbench.relevance.rule(ThatModule)"
            )
