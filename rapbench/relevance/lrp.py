"""Layer-wise relevance propagation [bach2015lrp]: the epsilon and the alpha-beta rule, one for each kind of layer.

Batch norms are folded into the linear layer before them; those that follow none pass relevance on. Activations,
constants and gates are as in RAP; so are additions and poolings, but for the stabilizer in what is divided by.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.engine import Balance, explain
from rapbench.relevance.linear import (
    LINEAR,
    TRANSPOSED,
    groups,
    innermost,
    magnitude,
    per_channel,
    products,
    shares,
)
from rapbench.relevance.operations import NORMS
from rapbench.relevance.rules import RULES, Flow, Rules, Sharing, Step, stabilized
from rapbench.relevance.wiring import pass_through

Bias = Literal["in_denominator", "ignored"]
STABILIZER = 1e-6  # added to the magnitude of every denominator but the epsilon rule's


class Rule(Protocol):
    """How a linear layer hands a flow's relevance, which is the rule's to overwrite, to its input."""

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Return the input's relevance."""


@dataclass(frozen=True)
class Composite(Sharing):
    """One rule for convolutions, another for fully connected layers."""

    convolution: Rule = None  # type: ignore[assignment]
    dense: Rule = None  # type: ignore[assignment]
    stabilizer: float = STABILIZER


@dataclass(frozen=True)
class AlphaBeta:
    """R_i = sum_j (alpha z+_ij / (sum_i z+_ij + b+_j) - beta z-_ij / (sum_i z-_ij + b-_j)) R_j, beta = alpha - 1."""

    alpha: float
    bias: Bias = "in_denominator"

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down, in one map for the positive and one for the negative products."""
        (m,) = step.inputs
        handed = None
        for sign, factor in ((1, self.alpha), (-1, 1 - self.alpha)):
            if factor == 0:
                continue
            added = step.constant(f"added {sign}", functools.partial(self._added, step.module, sign))
            parts = products(step, m, sign, nonnegative=step.nonnegative[0])
            total, back = shares(step.module, parts, added)
            last = sign < 0 or self.alpha == 1
            part = (flow.relevance if last else flow.relevance.clone()).mul_(factor)
            part = back(step.share(flow, part, total, added=per_channel(step.module, added, total)))
            handed = part if handed is None else handed.add_(part)
        assert handed is not None
        return handed

    def _added(self, module: nn.Module, sign: int) -> Tensor:
        """What a denominator holds beside the products: the magnitude of the bias's share, and the stabilizer."""
        bias: Tensor | None = module.bias if self.bias == "in_denominator" else None  # type: ignore[assignment]
        if bias is not None:
            return magnitude(bias, sign).add_(STABILIZER)
        weight: Tensor = module.weight  # type: ignore[assignment]
        transposed = isinstance(innermost(module), TRANSPOSED)
        return weight.new_full((weight.shape[1] * groups(module) if transposed else len(weight),), STABILIZER)


@dataclass(frozen=True)
class Epsilon:
    """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j, with z_j = sum_i z_ij + b_j."""

    epsilon: float
    bias: Bias = "in_denominator"

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down."""
        (m,) = step.inputs
        weight: Tensor = step.module.weight  # type: ignore[assignment]
        bias: Tensor | None = step.module.bias if self.bias == "in_denominator" else None  # type: ignore[assignment]
        total, back = shares(step.module, [(m, weight)], bias)
        denominator = stabilized(total, self.epsilon, signed=True)
        added = torch.zeros(())
        if step.count_dropped:
            added = torch.full_like(denominator, self.epsilon).copysign_(denominator)
            added = added if bias is None else added + per_channel(step.module, bias, denominator)
        return back(step.share(flow, flow.relevance, denominator, added=added))


LRP = Rules({}, *RULES.maps, folds=True)
LRP.rule(*NORMS, keeps_inputs=False)(pass_through)


@LRP.rule(*LINEAR)
def linear(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """Apply the rule that the composite has for this kind of layer."""
    composite: Composite = step.options
    rule = composite.dense if isinstance(innermost(step.module), nn.Linear) else composite.convolution
    return ((rule(step, flow),) for flow in flows)


def alpha_beta(method: str, alpha: float, bias: Bias) -> Rule:
    """Return the alpha-beta rule; RapbenchError for an alpha without a beta."""
    if not 1 <= alpha < float("inf"):
        raise RapbenchError(f"method {method!r}: alpha={alpha} makes beta = alpha - 1 negative; set alpha >= 1")
    return AlphaBeta(alpha, bias)


def epsilon(method: str, stabilizer: float, bias: Bias) -> Rule:
    """Return the epsilon rule; RapbenchError for an epsilon that is no magnitude."""
    if not 0 <= stabilizer < float("inf"):
        raise RapbenchError(f"method {method!r}: stabilizer={stabilizer} is no magnitude; set stabilizer >= 0")
    return Epsilon(stabilizer, bias)


def lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    convolution: Rule,
    dense: Rule,
    balance: list[Balance] | None = None,
) -> Tensor:
    """Propagate the targets' logits [bach2015lrp], one rule in convolutions, one in fully connected layers.

    Parameters
    ----------
    model : nn.Module
        In eval mode; left as it was.
    inputs : Tensor
        (N, ...), float32 or float64.
    targets : Tensor
        (N,) indices of the classes.
    convolution, dense : Rule
        `AlphaBeta` or `Epsilon`.
    balance : list of Balance, optional
        A list to append to, for the conservation check.

    Returns
    -------
    Tensor
        Relevance shaped like `inputs`.

    Raises
    ------
    RapbenchError
        For an operation without a rule.
    """
    composite = Composite(convolution=convolution, dense=dense)
    return explain(model, inputs, targets, composite, {"single": 1}, balance, LRP)
