"""The registry of relevance rules: how one kind of module hands relevance from its output to its inputs."""

from collections import ChainMap
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Options:
    """What the paper leaves open in RAP, each with its default."""

    inversion_sign: Literal["keep", "flip"] = "keep"
    mixed_sign: Literal["joint", "printed"] = "joint"
    bias_divisor: Literal["area", "area_squared"] = "area"
    input_rule: Literal["zbox", "zbox_swapped", "same_as_hidden"] = "zbox"
    residual: Literal["proportional", "absolute"] = "proportional"
    bias_correction: bool = True
    batchnorm_correction: bool = True


@dataclass
class Step:
    """One module call while relevance goes back through it.

    inputs: the activations it was given, (N, ...) each; None for a rule that does not keep them. shapes: theirs.
    first: its input is the network's input, but for what rearranges or rescales it. nonnegative: which inputs are
    never negative, known from the graph. shared: what a rule computes once for both flows. constants: what it computes
    from weights alone, kept while the images of a batch go down a few at a time. dropped: (N,) relevance
    that found nobody to go to, counted by `share`. more_flows: this flow's relevance may wait for the next one's, for
    rules that are linear in it.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    first: bool
    options: Options
    output: Tensor | None = None
    shapes: tuple[torch.Size, ...] = ()
    nonnegative: tuple[bool, ...] = ()
    shared: dict[str, Any] = field(default_factory=dict)
    constants: dict[str, Any] | None = None
    dropped: Tensor | float = 0.0
    count_dropped: bool = False
    more_flows: bool = False

    def once(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return compute(), evaluated for the first flow only."""
        if name not in self.shared:
            self.shared[name] = compute()
        return self.shared[name]

    def constant(self, name: str, compute: Callable[[], Any]) -> Any:
        """Return compute(), which must depend on the module and the options only."""
        if self.constants is None:
            return compute()
        if name not in self.constants:
            self.constants[name] = compute()
        return self.constants[name]

    def share(self, relevance: Tensor, total: Tensor) -> Tensor:
        """Return relevance / total in the memory of `relevance`; total as `divisor` gives it.

        Where the total is infinite, nobody contributed: that relevance is dropped, and counted.
        """
        if self.count_dropped:
            self.dropped = self.dropped + per_sample(torch.where(total.isinf(), relevance, 0))
        return relevance.div_(total)


def per_sample(x: Tensor) -> Tensor:
    """Return (N,) sums over all that each sample has, whatever the memory's layout; x: (N, ...)."""
    return x.sum(tuple(range(1, x.dim())))


def divisor(total: Tensor, *, signed: bool) -> Tensor:
    """Return `total`, overwritten, with infinity for 0, so that a ratio whose denominator is 0 becomes 0.

    A total below about 1e-35 in float32 (1e-305 in float64) counts as 0: the quotient would overflow. signed: False
    when no total is negative.
    """
    tiny = torch.finfo(total.dtype).tiny * 1024
    if not signed:
        return torch.threshold_(total, tiny, torch.inf)
    return torch.threshold_(total.abs(), tiny, torch.inf).copysign_(total)


# (step, relevance of the output, kappa: +1 normal flow, -1 inversion flow) -> relevance of each input.
# The relevance is the rule's to overwrite.
Rule = Callable[[Step, Tensor, int], tuple[Tensor | None, ...]]

# an output-shaped tensor s -> sum_j w_ij s_j
Back = Callable[[Tensor], Tensor]


class Rules(ChainMap[type[nn.Module], Rule]):
    """Rules by module type. A child has rules of its own and falls back on its parent's."""

    def rule(self, *modules: type[nn.Module], keeps_inputs: bool = True) -> Callable[[Rule], Rule]:
        """Register a relevance rule for module types, built-in or your own.

        keeps_inputs: False when the rule does not look at `step.inputs`, so that they need not be stored. Example::

            @rapbench.relevance.rule(MyScale)
            def my_scale(step, relevance, kappa):
                return (relevance,)
        """

        def enter(function: Rule) -> Rule:
            for module in modules:
                self[module] = function
            if not keeps_inputs:
                _FORGETFUL.add(function)
            return function

        return enter

    def needs_inputs(self, module: nn.Module) -> bool:
        """Whether the rule for a module looks at the activations it was given."""
        return self[type(module)] not in _FORGETFUL


_FORGETFUL: set[Rule] = set()
RULES = Rules()
rule = RULES.rule


def transpose(apply: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Back]:
    """Return a linear map's value at x and the map from an output-shaped tensor to `sum_j w_ij s_j`, shaped like x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = apply(x)

    def back(s: Tensor) -> Tensor:
        return torch.autograd.grad(value, x, s, retain_graph=True)[0]

    return value.detach(), back
