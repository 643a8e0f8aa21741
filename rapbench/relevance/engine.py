"""Take relevance back through the activations that a forward pass left, in any number of flows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance import images
from rapbench.relevance.cancellation import lost
from rapbench.relevance.graph_cache import prepared
from rapbench.relevance.images import Pass
from rapbench.relevance.network import Network
from rapbench.relevance.node_names import operation, place
from rapbench.relevance.node_properties import signals
from rapbench.relevance.operations import RESHAPES
from rapbench.relevance.precise import resolved
from rapbench.relevance.rules import RULES, Flow, Rules, Sharing, Step, transpose

FLOWS = {"normal": 1, "inversion": -1}


@dataclass(frozen=True)
class Balance:
    """What one module call in one flow was given and gave: relevance_out = relevance_in + dropped.

    Parameters
    ----------
    place : str
        Where the call stands in the user's model.
    flow : str
        The flow's name.
    relevance_out : Tensor
        (N,) how much of the output's relevance the rule propagates: all of it, but in RAP's last linear layer 0, as (5)
        propagates it to inputs of either sign with opposite signs.
    relevance_in : Tensor
        (N,) the relevance of the inputs.
    dropped : Tensor
        (N,) relevance that no input received: the shares of biases, constants and stabilizers, and all of it where a
        denominator is 0.
    total : Tensor
        (N,) the sum of |R| of the output.
    """

    place: str
    flow: str
    relevance_out: Tensor
    relevance_in: Tensor
    dropped: Tensor
    total: Tensor


@dataclass(frozen=True)
class Propagation:
    """Relevance's way from a network's output to its input.

    Parameters
    ----------
    network : Network
        The model, made ready.
    options : Sharing
        As the network's rules take them, `Options` for RAP's.
    flows : mapping of str to int
        Name to kappa, which is 0 in the last linear layer and above it.
    balance : list of Balance, optional
        A list to append to, one entry for each module call and flow.
    """

    network: Network
    options: Sharing
    flows: Mapping[str, int]
    balance: list[Balance] | None = None

    def back(self, run: Pass, start: Tensor) -> Tensor:
        """Take relevance from the output to the input, and sum the flows (RAP eq. 9).

        Parameters
        ----------
        run : Pass
            A forward pass of the network; its activations are used up.
        start : Tensor
            (N, classes), the relevance of the output, the same in each flow.

        Returns
        -------
        Tensor
            Shaped like the inputs of `run`.
        """
        relevance = {self.network.output.args[0]: {flow: start.clone() for flow in self.flows}}
        return self._walk(len(self.network.path), run, relevance)

    def _walk(
        self,
        above: int,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
    ) -> Tensor:
        """Go from the path's node number `above` - 1 down to the input; a few images at a time where they are large."""
        for number in range(above - 1, -1, -1):
            node = self.network.path[number]
            if node not in relevance:
                continue
            some = next(iter(relevance[node].values()))
            batch = len(run.logits)
            block = images.block(some, batch) if self.balance is None else batch
            if batch > block:
                parts = images.split(run, relevance, block, self.network.varying)
                return torch.cat([self._walk(number + 1, *part) for part in parts])
            self._step(node, run, relevance)
        return _sum(list(relevance[self.network.input].values()))

    def _step(
        self,
        node: fx.Node,
        run: Pass,
        relevance: dict[fx.Node, dict[str, Tensor]],
    ) -> None:
        """Hand a node's relevance to its inputs, in every flow."""
        arrived = relevance.pop(node)
        arguments = signals(node, self.network.shapes)
        inputs: Any = tuple(run.values.get(argument) for argument in arguments)
        step = Step(
            self.network.modules.get(str(node.target)),  # type: ignore[arg-type]
            inputs,
            arguments[0] in self.network.like_input,
            self.options,
            run.values.pop(node, None),  # all its readers are done
            tuple(run.shapes[argument] for argument in arguments),
            tuple(argument in self.network.nonnegative for argument in arguments),
            constants=None if run.constants is None else run.constants.setdefault(node, {}),
            varying=tuple(argument in self.network.varying for argument in arguments),
            count_dropped=self.balance is not None,
            batch=len(run.logits),
            node=node,
            rounding_error=run.rounding_error,
        )
        given = [Flow(out, 0 if node in self.network.above else self.flows[flow]) for flow, out in arrived.items()]
        # before the rule overwrites it
        sums_above = [
            (step.per_image(out), step.per_image(out.abs())) for out in arrived.values() if self.balance is not None
        ]
        every = iter(self._hand(node, run, step, given))
        for number, (flow, of) in enumerate(zip(arrived, given, strict=True)):
            handed = next(every, None)
            if not isinstance(handed, tuple) or len(handed) != len(arguments):
                what = operation(self.network.graph_module, node)
                raise RapbenchError(
                    f"the relevance rule for {what} at {place(node)} must give a tuple for each flow, with a tensor or "
                    f"None for each of its inputs ({len(arguments)} here)"
                )
            there = [sums for argument in arguments for sums in relevance.get(argument, {}).values()]
            handed = _owned(handed, [*step.inputs, *there])
            if self.balance is not None:
                above, total = sums_above[number]
                got, dropped = _accounts(of, handed, step, torch.zeros_like(above))
                self.balance.append(Balance(place(node), flow, of.times * above, got, dropped, total))
            for argument, part in zip(arguments, handed, strict=True):
                if part is not None and argument in self.network.varying:
                    sums = relevance.setdefault(argument, {})
                    sums[flow] = sums[flow].add_(part) if flow in sums else part

    def _hand(self, node: fx.Node, run: Pass, step: Step, flows: list[Flow]) -> Iterable[tuple[Tensor | None, ...]]:
        """Return what a node's rule hands to the node's inputs, flow by flow."""
        if node in self.network.heads and self.network.rules.head:
            return self.network.rules.head(step, flows)
        if node.op == "call_module":
            return self.network.rules[type(step.module)](step, flows)
        if node.target in RESHAPES:
            return ((flow.relevance.reshape(step.shapes[0]),) for flow in flows)
        _, back = transpose(self.network.call(node, run.values), flows[0].relevance.new_zeros(step.shapes[0]))
        return ((back(flow.relevance),) for flow in flows)


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

    Parameters
    ----------
    model : nn.Module
        In eval mode; left as it was.
    inputs : Tensor
        (N, ...) as the model takes them, float32 or float64.
    targets : Tensor
        (N,) indices of its classes, which are not looked at here: that would wait for the device.
    options : Sharing
        As the rules take them, `Options` for RAP's.
    flows : mapping of str to int
        Name to kappa, such as `FLOWS`.
    balance : list of Balance, optional
        A list to append to, for the conservation check.
    rules : Rules
        By module type.

    Returns
    -------
    Tensor
        Shaped like `inputs`.

    Raises
    ------
    RapbenchError
        For a network with an operation that has no rule, for inputs in another precision, and for relevance that
        cancels beyond float64's.
    """

    def compute(model: nn.Module, inputs: Tensor, balance: list[Balance] | None) -> tuple[Tensor, Tensor]:
        return propagate(ready(model, inputs, rules), inputs, targets, options, flows, balance)

    return resolved(compute, model, inputs, balance)


def ready(model: nn.Module, inputs: Tensor, rules: Rules) -> Network:
    """Return a model made ready for relevance by these rules; raises as `explain` does."""
    if inputs.dtype not in (torch.float32, torch.float64):
        raise RapbenchError(
            f"relevance is propagated in float32 or float64, the inputs are {inputs.dtype}; convert them and the model "
            "with .float()"
        )
    kind = (*rules.items(), rules.head, rules.folds, rules.bilinear)
    return prepared(model, inputs, kind, lambda: Network(model, inputs, rules))


def propagate(
    network: Network,
    inputs: Tensor,
    targets: Tensor,
    options: Sharing,
    flows: Mapping[str, int],
    balance: list[Balance] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return relevance, of a network that is `ready`, and which share of each image's rounding decides on, (N,)."""
    with torch.no_grad(), network.folded():
        run = network.forward(inputs)
        start = torch.zeros_like(run.logits).scatter_(1, targets[:, None], run.logits.gather(1, targets[:, None]))
        relevance = Propagation(network, options, flows, balance).back(run, start)
        return relevance, lost(relevance, run.logits, run.rounding_error)


def _accounts(flow: Flow, handed: tuple[Tensor | None, ...], step: Step, nothing: Tensor) -> tuple[Tensor, Tensor]:
    """Return what the inputs got and what nobody got, (N,) each; what constants got is dropped. nothing: (N,) zeros."""
    got, dropped = nothing, nothing + flow.dropped
    for part, varies in zip(handed, step.varying, strict=True):
        if part is not None and varies:
            got = got + step.per_image(part)
        elif part is not None:
            dropped = dropped + step.per_image(part)
    return got, dropped


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
