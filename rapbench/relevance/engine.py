"""Run a model forward once and take relevance back through the activations it left, in any number of flows."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

import rapbench.relevance.norm
import rapbench.relevance.pooling
import rapbench.relevance.wiring  # noqa: F401  the built-in rules register themselves
from rapbench.errors import RapbenchError
from rapbench.relevance.canonical import (
    canonical,
    nonnegative,
    operation,
    place,
    refuse_batch_statistics,
    shape_valued,
    signals,
)
from rapbench.relevance.linear import CONVOLUTIONS, Padded
from rapbench.relevance.operations import REARRANGES, RESHAPES, TRANSPARENT, Add, Cat, Constant, Gate, Pad, Part
from rapbench.relevance.prepared import prepared
from rapbench.relevance.rules import RULES, Options, Rules, Step, per_sample, transpose

FLOWS = {"normal": 1, "inversion": -1}
# Modules that always return a tensor of their own.
FRESH = (nn.modules.batchnorm._BatchNorm, nn.modules.conv._ConvNd, nn.Linear, Add)


@dataclass(frozen=True)
class Balance:
    """The books of one module call in one flow, (N,) each: relevance_out = relevance_in + dropped, to rounding.

    relevance_out is what came from above, relevance_in what went to the inputs; total is the sum of |R| above.
    """

    place: str
    flow: str
    relevance_out: Tensor
    relevance_in: Tensor
    dropped: Tensor
    total: Tensor


@dataclass
class Pass:
    """A forward pass: the activations that the way back needs, every tensor's shape, and (N, classes) logits.

    constants: of every node, what its rule computes from weights alone, where some images go down after others.
    """

    values: dict[fx.Node, Any]
    shapes: dict[fx.Node, torch.Size]
    logits: Tensor
    constants: dict[fx.Node, dict[str, Any]] | None = None


class Network:
    """A model made ready for relevance: traced, every operation matched with its rule, or refused.

    The model must be in eval mode and end in a fully connected layer (reshapes and dropout may follow it).
    rules: by module type. Raises RapbenchError that names the operation and its place before anything is computed.
    """

    def __init__(self, model: nn.Module, inputs: Tensor | None = None, rules: Rules = RULES):
        self.rules = rules
        self.graph_module = canonical(model, inputs, leaves=tuple(rules))
        self.graph = self.graph_module.graph
        self.shaped = bool(self.graph_module.meta.get("shaped"))
        self.modules = dict(self.graph_module.named_modules())
        self.shapes = shape_valued(self.graph)
        self.input = next(node for node in self.graph.nodes if node.op == "placeholder")
        head = self._head()
        self.head: nn.Linear = self.modules[str(head.target)]
        self.features = head.all_input_nodes[0]
        self._merge_padding()
        self.path = self._path()
        self._refuse_unknown()
        self.like_input = self._like_input()
        self.nonnegative = nonnegative(self.graph_module)
        self.last_reader: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            self.last_reader |= dict.fromkeys(node.all_input_nodes, node)
        self.kept = {self.features}  # activations that the way back needs
        for node in self.path:
            if node.op == "call_module" and rules.needs_inputs(self.modules[str(node.target)]):
                self.kept.update(node.all_input_nodes)
        self.held = self.kept | self.shapes
        # ReLUs that alone read the fresh tensor which they are given
        self.overwrites = {
            node
            for node in self.path
            if type(self.modules.get(str(node.target))) is nn.ReLU
            and isinstance(self.modules.get(str(node.all_input_nodes[0].target)), FRESH)
            and len(node.all_input_nodes[0].users) == 1
        }

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the graph's output for (N, ...) inputs."""
        return self.forward(inputs).logits

    def forward(self, inputs: Tensor) -> Pass:
        """Run the graph on (N, ...) inputs, keeping only what the way back needs."""
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
                    in_place = node in self.overwrites
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
            for argument in node.all_input_nodes:
                if self.last_reader[argument] is node and argument not in self.held:
                    del values[argument]
        logits: Any = value
        return Pass(values, shapes, logits)

    def backward(
        self,
        run: Pass,
        start: Tensor,
        options: Options,
        flows: Mapping[str, int],
        balance: list[Balance] | None = None,
    ) -> Tensor:
        """Take relevance from the last layer's inputs to the network's, and sum the flows (RAP eq. 9).

        start: (N, D), like the last layer's input. flows: name to kappa. balance: a list to append the books to.
        Returns a tensor shaped like the inputs; the activations of `run` are used up.
        """
        relevance = {self.features: {flow: start.clone() for flow in flows}}
        return self._walk(len(self.path), run, relevance, options, flows, balance)

    def _walk(
        self,
        above: int,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
        options: Options,
        flows: Mapping[str, int],
        balance: list[Balance] | None,
    ) -> Tensor:
        """Go from the path's node number `above` - 1 down to the input; a few images at a time where they are large."""
        for number in range(above - 1, -1, -1):
            node = self.path[number]
            if node not in relevance:
                continue
            some = next(iter(relevance[node].values()))
            block = _block(some) if balance is None else len(some)
            if len(some) > block:
                parts = _split(run, relevance, len(some), block)
                return torch.cat([self._walk(number + 1, *part, options, flows, None) for part in parts])
            self._step(node, run, relevance, options, flows, balance)
        return _sum(list(relevance[self.input].values()))

    def _step(
        self,
        node: fx.Node,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
        options: Options,
        flows: Mapping[str, int],
        balance: list[Balance] | None,
    ) -> None:
        """Hand a node's relevance to its inputs, in every flow."""
        arrived = relevance.pop(node)
        arguments = signals(node, self.shapes)
        inputs: Any = tuple(run.values.get(argument) for argument in arguments)
        step = Step(
            self.modules.get(str(node.target)),  # type: ignore[arg-type]
            inputs,
            arguments[0] in self.like_input,
            options,
            run.values.pop(node, None),  # all its readers are done
            tuple(run.shapes[argument] for argument in arguments),
            tuple(argument in self.nonnegative for argument in arguments),
            constants=None if run.constants is None else run.constants.setdefault(node, {}),
            count_dropped=balance is not None,
        )
        for number, (flow, out) in enumerate(arrived.items(), start=1):
            step.more_flows = number < len(arrived) and balance is None
            above = (per_sample(out), per_sample(out.abs())) if balance is not None else None
            handed = self._hand(node, run, step, out, flows[flow])
            if balance is not None and above is not None:
                below = torch.stack([per_sample(part) for part in handed if part is not None]).sum(0)
                dropped = torch.zeros_like(below) + step.dropped
                balance.append(Balance(place(node), flow, above[0], below, dropped, above[1]))
                step.dropped = 0.0
            for argument, part in zip(arguments, handed, strict=True):
                if part is not None:
                    sums = relevance.setdefault(argument, {})
                    sums[flow] = sums[flow].add_(part) if flow in sums else part

    def _hand(self, node: fx.Node, run: Pass, step: Step, out: Tensor, kappa: int) -> tuple[Tensor | None, ...]:
        """Apply a node's rule; every tensor that comes back is its receiver's own, to overwrite."""
        if node.op == "call_module":
            handed = self.rules[type(step.module)](step, out, kappa)
        elif node.target in RESHAPES:
            handed = (out.reshape(step.shapes[0]),)
        else:
            args, kwargs = fx.node.map_arg((node.args[1:], node.kwargs), run.values.__getitem__)
            target: Any = node.target if node.op == "call_function" else getattr(Tensor, str(node.target))
            _, back = transpose(lambda x: target(x, *args, **kwargs), out.new_zeros(step.shapes[0]))
            handed = (back(out),)
        taken = {value.untyped_storage().data_ptr() for value in step.inputs if value is not None}
        owned: list[Tensor | None] = []
        for part in handed:
            if part is not None and part.untyped_storage().data_ptr() in taken:
                part = part.clone()
            if part is not None:
                taken.add(part.untyped_storage().data_ptr())
            owned.append(part)
        return tuple(owned)

    def _like_input(self) -> set[fx.Node]:
        """The network's input, and what comes from it by rearranging, rescaling and padding alone."""
        found = {self.input}
        changes_little = (*TRANSPARENT, nn.Flatten, Constant, Cat, Pad, Part)
        for node in self.path:
            small = isinstance(self.modules.get(str(node.target)), changes_little) or node.op != "call_module"
            if small and all(argument in found for argument in signals(node, self.shapes)):
                found.add(node)
        return found

    def _merge_padding(self) -> None:
        """Make one layer of zero padding and the convolution that alone reads it."""
        for node in list(self.graph.nodes):
            module, before = self.modules.get(str(node.target)), node.all_input_nodes[:1]
            pad = self.modules.get(str(before[0].target)) if before else None
            if isinstance(pad, (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)):
                pad = Pad(pad.padding)
            zeros = isinstance(pad, Pad) and pad.mode == "constant" and not pad.value and len(before[0].users) == 1
            if zeros and type(module) in CONVOLUTIONS:
                name = f"_canonical_padded_{node.name}"
                self.modules[name] = Padded(pad, module)  # type: ignore[arg-type]
                self.graph_module.add_submodule(name, self.modules[name])
                node.meta["place"] = place(node)
                node.target = name
                node.replace_input_with(before[0], before[0].all_input_nodes[0])
                self.graph.erase_node(before[0])

    def _head(self) -> fx.Node:
        output = next(node for node in self.graph.nodes if node.op == "output")
        node = output.args[0]
        while isinstance(node, fx.Node):
            module = self.modules.get(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, nn.Linear):
                return node
            passes = isinstance(module, (*TRANSPARENT, nn.Flatten)) or node.target in RESHAPES
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
                arguments = signals(node, self.shapes)
                gated = isinstance(self.modules.get(str(node.target)), Gate)
                above.update(arguments[:1] if gated else arguments)
        return [node for node in self.graph.nodes if node in above and node.op not in ("placeholder", "get_attr")]

    def _refuse_unknown(self) -> None:
        refuse_batch_statistics(self.graph_module)
        for node in self.path:
            if node.op == "call_module":
                if type(self.modules[str(node.target)]) in self.rules:
                    continue
            elif node.target in RESHAPES | REARRANGES:
                continue
            what = operation(self.graph_module, node)
            raise RapbenchError(
                f"no relevance rule for {what} at {place(node)}; put the operation in an nn.Module of its own and "
                "register a rule for it with @rapbench.relevance.rule(ThatModule)"
            )


def explain(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    start: Callable[[nn.Linear, Tensor, Tensor, Tensor], Tensor],
    options: Options,
    flows: Mapping[str, int],
    balance: list[Balance] | None = None,
    rules: Rules = RULES,
) -> Tensor:
    """Return the relevance of each input element, shaped like `inputs`.

    inputs: (N, ...) as the model takes them. targets: (N,) class indices. start: (last layer, its inputs, (N,) targets,
    (N,) their logits) -> relevance of the last layer's inputs.
    Raises RapbenchError for a network with an operation that has no rule, or for a target out of range.
    """
    kind = tuple(rules.items())
    network = prepared(model, inputs, kind, lambda: Network(model, inputs, rules))
    with torch.no_grad():
        run = network.forward(inputs)
        if targets.max() >= run.logits.shape[1]:
            raise RapbenchError(f"target {targets.max()} is out of range: the model has {run.logits.shape[1]} classes")
        logits = run.logits.gather(1, targets[:, None])[:, 0]
        first = start(network.head, run.values[network.features], targets, logits)
        return network.backward(run, first, options, flows, balance)


CACHED = 12 * 2**20  # bytes of one tensor: what a step touches then stays in a CPU's cache, and its rules run faster


def _block(x: Tensor) -> int:
    """How many images of a batch like x go down together."""
    if x.device.type != "cpu":
        return len(x)
    blocks = math.ceil(len(x) / max(1, CACHED // (x[0].numel() * x.element_size())))
    return math.ceil(len(x) / blocks)


def _split(
    run: Pass, relevance: dict[fx.Node, dict[str, Tensor]], batch: int, block: int
) -> Iterator[tuple[Pass, dict[fx.Node, dict[str, Tensor]]]]:
    """Yield what belongs to every `block` images: views, one after another."""
    constants = {} if run.constants is None else run.constants
    for start in range(0, batch, block):
        images = slice(start, start + block)
        values = {
            node: value[images] if isinstance(value, Tensor) and node.op != "get_attr" else value
            for node, value in run.values.items()
        }
        some = {node: {flow: part[images] for flow, part in flows.items()} for node, flows in relevance.items()}
        count = min(block, batch - start)
        shapes = {node: torch.Size((count, *shape[1:])) for node, shape in run.shapes.items()}
        yield Pass(values, shapes, run.logits[images], constants), some


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total.add_(tensor)
    return total
