"""Run a model forward once and take relevance back through the activations it left, in any number of flows."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
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
from rapbench.relevance.graph_cache import prepared
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
    Pad,
    Part,
)
from rapbench.relevance.rules import RULES, Flow, Rules, Sharing, Step, per_sample, transpose

FLOWS = {"normal": 1, "inversion": -1}
# Modules that always return a tensor of their own.
FRESH = (nn.modules.batchnorm._BatchNorm, *LINEAR, Add)
BUILT_IN = frozenset(RULES)


@dataclass(frozen=True)
class Balance:
    """What one module call in one flow was given and gave, (N,) each: relevance_out = relevance_in + dropped.

    relevance_out is what the rule hands out of what came from above: all of it once, but in RAP's last linear layer 0,
    as (5) hands it out to either sign with opposite signs. relevance_in is what the inputs got, dropped what nobody
    got: the shares of biases, constants and stabilizers, and those of vanishing denominators. total is the sum of |R|
    above.
    """

    place: str
    flow: str
    relevance_out: Tensor
    relevance_in: Tensor
    dropped: Tensor
    total: Tensor


class Network:
    """A model made ready for relevance: traced, every operation matched with its rule, or refused.

    rules: by module type. Where they have one for the last linear layer, every way to the output goes through one,
    and what stands above it has built-in rules. Raises RapbenchError that names the operation and its place before
    anything is computed.
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
        self.carrying = set(self.path)
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
            if node in self.carrying and inputs.shape not in self.checked:
                apart = isinstance(value, Tensor) and value.dim() > 0 and len(value) == len(inputs)
                if apart and node.target in REARRANGES:
                    apart = images.keeps_images(self._call(node, values), args[0])
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
        return Pass(values, shapes, value)

    def backward(
        self,
        run: Pass,
        start: Tensor,
        options: Sharing,
        flows: Mapping[str, int],
        balance: list[Balance] | None = None,
    ) -> Tensor:
        """Take relevance from the network's output to its input, and sum the flows (RAP eq. 9).

        start: (N, classes), like the output. flows: name to kappa, which is 0 in the last linear layer and above it.
        balance: a list to append to. Returns a tensor shaped like the inputs; the activations of `run` are used up.
        """
        relevance = {self.output.args[0]: {flow: start.clone() for flow in flows}}
        return self._walk(len(self.path), run, relevance, options, flows, balance)

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

    def _walk(
        self,
        above: int,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
        options: Sharing,
        flows: Mapping[str, int],
        balance: list[Balance] | None,
    ) -> Tensor:
        """Go from the path's node number `above` - 1 down to the input; a few images at a time where they are large."""
        for number in range(above - 1, -1, -1):
            node = self.path[number]
            if node not in relevance:
                continue
            some = next(iter(relevance[node].values()))
            block = images.block(some) if balance is None else len(some)
            if len(some) > block:
                parts = images.split(run, relevance, block, self.varying)
                return torch.cat([self._walk(number + 1, *part, options, flows, None) for part in parts])
            self._step(node, run, relevance, options, flows, balance)
        return _sum(list(relevance[self.input].values()))

    def _step(
        self,
        node: fx.Node,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
        options: Sharing,
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
            varying=tuple(argument in self.varying for argument in arguments),
            count_dropped=balance is not None,
        )
        given = [Flow(out, 0 if node in self.above else flows[flow]) for flow, out in arrived.items()]
        # before the rule overwrites it
        sums_above = [(per_sample(out), per_sample(out.abs())) for out in arrived.values() if balance is not None]
        every = iter(self._hand(node, run, step, given))
        for number, (flow, of) in enumerate(zip(arrived, given, strict=True)):
            handed = next(every, None)
            if not isinstance(handed, tuple) or len(handed) != len(arguments):
                raise RapbenchError(
                    f"the relevance rule for {operation(self.graph_module, node)} at {place(node)} must give a tuple "
                    f"for each flow, with a tensor or None for each of its inputs ({len(arguments)} here)"
                )
            there = [sums for argument in arguments for sums in relevance.get(argument, {}).values()]
            handed = _owned(handed, [*step.inputs, *there])
            if balance is not None:
                above, total = sums_above[number]
                got = torch.zeros_like(above)
                dropped = got + of.dropped
                for part, varying in zip(handed, step.varying, strict=True):
                    if part is not None and varying:
                        got = got + per_sample(part)
                    elif part is not None:  # a constant's share
                        dropped = dropped + per_sample(part)
                balance.append(Balance(place(node), flow, of.times * above, got, dropped, total))
            for argument, part in zip(arguments, handed, strict=True):
                if part is not None and argument in self.varying:
                    sums = relevance.setdefault(argument, {})
                    sums[flow] = sums[flow].add_(part) if flow in sums else part

    def _hand(self, node: fx.Node, run: Pass, step: Step, flows: list[Flow]) -> Iterable[tuple[Tensor | None, ...]]:
        """Return what a node's rule hands to the node's inputs, flow by flow."""
        if node in self.heads and self.rules.head:
            return self.rules.head(step, flows)
        if node.op == "call_module":
            return self.rules[type(step.module)](step, flows)
        if node.target in RESHAPES:
            return ((flow.relevance.reshape(step.shapes[0]),) for flow in flows)
        _, back = transpose(self._call(node, run.values), flows[0].relevance.new_zeros(step.shapes[0]))
        return ((back(flow.relevance),) for flow in flows)

    def _call(self, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
        """A call of a function or method of one tensor, the rest of its arguments as they are."""
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
        """Those of a node's inputs that take relevance: not the gates, nor what does not depend on the input."""
        arguments = signals(node, self.shapes)
        gated = isinstance(self.modules.get(str(node.target)), Gate)
        return [argument for argument in (arguments[:1] if gated else arguments) if argument in self.varying]

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


def explain(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    options: Sharing,
    flows: Mapping[str, int],
    balance: list[Balance] | None = None,
    rules: Rules = RULES,
) -> Tensor:
    """Return the relevance of each input element, shaped like `inputs`, which starts from the targets' logits.

    inputs: (N, ...) as the model takes them, float32 or float64. targets: (N,) indices of its classes, which is not
    looked at here: it would wait for the device. options: as the rules take them, `Options` for RAP's.
    Raises RapbenchError for a network with an operation that has no rule.
    """
    if inputs.dtype not in (torch.float32, torch.float64):
        raise RapbenchError(
            f"relevance is propagated in float32 or float64, the inputs are {inputs.dtype}; convert them and the model "
            "with .float()"
        )
    kind = (*rules.items(), rules.head, rules.folds)
    network = prepared(model, inputs, kind, lambda: Network(model, inputs, rules))
    with torch.no_grad(), network.folded():
        run = network.forward(inputs)
        start = torch.zeros_like(run.logits).scatter_(1, targets[:, None], run.logits.gather(1, targets[:, None]))
        return network.backward(run, start, options, flows, balance)


def _owned(handed: tuple[Tensor | None, ...], others: Iterable[Tensor | None]) -> tuple[Tensor | None, ...]:
    """Return tensors that share no memory with one another, nor with others': each is its receiver's to overwrite."""
    taken = {value.untyped_storage().data_ptr() for value in others if value is not None}
    owned: list[Tensor | None] = []
    for part in handed:
        if part is not None and (part.untyped_storage().data_ptr() in taken or 0 in part.stride()):
            part = part.clone()  # one that is expanded shares memory with itself
        if part is not None:
            taken.add(part.untyped_storage().data_ptr())
        owned.append(part)
    return tuple(owned)


def _sum(tensors: list[Tensor]) -> Tensor:
    total = tensors[0]
    for tensor in tensors[1:]:
        total = total.add_(tensor)
    return total
