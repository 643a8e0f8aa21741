"""LRP's rules of a linear layer: how it hands relevance to its input.

Every denominator but that of the epsilon rule has `STABILIZER` added to its magnitude, as in zennit. In the formulas
z_ij = m_i w_ij, and b_j is left out where `bias` is ignored.
"""

import functools
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.box import image_box, in_box
from rapbench.relevance.linear import (
    TRANSPOSED,
    Attended,
    apply,
    groups,
    innermost,
    magnitude,
    per_channel,
    products,
    shares,
)
from rapbench.relevance.rules import Flow, Step, beside, stabilized

Bias = Literal["in_denominator", "ignored"]
Box = Literal["pixels", "image"]
STABILIZER = 1e-6


class Rule(Protocol):
    """How a linear layer hands a flow's relevance, which is the rule's to overwrite, to its input."""

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Return the input's relevance."""


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
        bias = _bias(module, self.bias)
        return _positive(module, None if bias is None else magnitude(bias, sign))


@dataclass(frozen=True)
class Epsilon:
    """R_i = sum_j z_ij / (z_j + epsilon sign(z_j)) R_j, with z_j = sum_i z_ij + b_j."""

    epsilon: float
    bias: Bias = "in_denominator"

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down."""
        (m,) = step.inputs
        weight: Tensor = step.module.weight  # type: ignore[assignment]
        return _signed(step, flow, flow.relevance, [(m, weight)], _bias(step.module, self.bias), self.epsilon)


@dataclass(frozen=True)
class Gamma:
    """Products of the output's sign count 1 + gamma times [montavon2019layer], [andeol2021learning].

    R_i = sum_j (z_ij + gamma z+_ij) / (z_j + gamma (sum_i z+_ij + b+_j)) R_j where z_j = sum_i z_ij + b_j is positive,
    and with z- and b- in place of z+ and b+ where it is negative. Where it is 0, relevance is dropped.
    """

    gamma: float
    bias: Bias = "in_denominator"

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down, in one map for positive and one for negative outputs."""
        (m,) = step.inputs
        output = step.output
        if output is None:
            output = apply(step.module, m, step.module.weight, step.module.bias)  # type: ignore[arg-type]
        if step.count_dropped:
            flow.dropped = flow.dropped + step.per_image(torch.where(output == 0, flow.relevance, 0))
        handed = None
        for sign in (1, -1):
            relevance = torch.where(output > 0 if sign > 0 else output < 0, flow.relevance, 0)
            if sign < 0 and not relevance.any():  # as behind a ReLU
                continue
            bias = None if _bias(step.module, self.bias) is None else self._favoured(step, "bias", sign)
            parts = [(m, self._favoured(step, "weight", sign))]
            if not step.nonnegative[0]:  # negative inputs' products have the other sign
                parts = [(m.clamp(min=0), parts[0][1]), (m.clamp(max=0), self._favoured(step, "weight", -sign))]
            part = _signed(step, flow, relevance, parts, bias, STABILIZER)
            handed = part if handed is None else handed.add_(part)
        assert handed is not None
        return handed.add_(0.0)  # -0 becomes 0, whether or not other images of the batch have negative outputs

    def _favoured(self, step: Step, name: str, sign: int) -> Tensor:
        """The module's weight or bias w, with its entries of one sign 1 + gamma times as large."""
        values: Tensor = getattr(step.module, name)
        favoured = values.clamp(min=0) if sign > 0 else values.clamp(max=0)
        return step.constant(f"{name} favoured {sign}", lambda: values + self.gamma * favoured)


@dataclass(frozen=True)
class ZBox:
    """z^B: R_i = sum_j q_ij / (sum_i q_ij) R_j with q_ij = x_i w_ij - l_i w+_ij - h_i w-_ij [montavon2017dtd].

    l and h are the lowest and the highest values that the layer's input can have. The bias cancels.

    Parameters
    ----------
    box : {"pixels", "image"}
        What pixel values from 0 to 1 become by the model's normalisation, or each image's own minimum and maximum.
    low, high : Tensor, optional
        (1, ...) like the layer's input, for "pixels": known once the network is.
    """

    box: Box = "pixels"
    low: Tensor | None = None
    high: Tensor | None = None

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down."""
        (x,) = step.inputs
        if self.box == "image":
            low, high = image_box(step, x)
        else:
            assert self.low is not None
            assert self.high is not None
            low, high = self.low, self.high
        return _signed(step, flow, flow.relevance, in_box(step, x, low, high), None, STABILIZER)


@dataclass(frozen=True)
class Flat:
    """R_i = sum_j 1 / (number of i) R_j: each input of an output gets the same [lapuschkin2019unmasking]."""

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down."""
        weight: Tensor = step.module.weight  # type: ignore[assignment]
        return _by_weights(step, flow, torch.ones_like(weight), None)


@dataclass(frozen=True)
class WSquare:
    """w^2: R_i = sum_j w_ij^2 / (sum_i w_ij^2 + b_j^2) R_j [montavon2017dtd]; there, without the bias."""

    bias: Bias = "in_denominator"

    def __call__(self, step: Step, flow: Flow) -> Tensor:
        """Hand relevance down."""
        weight: Tensor = step.module.weight  # type: ignore[assignment]
        bias = _bias(step.module, self.bias)
        return _by_weights(step, flow, weight.square(), None if bias is None else bias.square())


def alpha_beta(method: str, alpha: float, bias: Bias) -> AlphaBeta:
    """Return the alpha-beta rule; RapbenchError for an alpha without a beta."""
    if not 1 <= alpha < float("inf"):
        raise RapbenchError(f"method {method!r}: alpha={alpha} makes beta = alpha - 1 negative; set alpha >= 1")
    return AlphaBeta(alpha, bias)


def epsilon(method: str, stabilizer: float, bias: Bias) -> Epsilon:
    """Return the epsilon rule; RapbenchError for an epsilon that is no magnitude."""
    if not 0 <= stabilizer < float("inf"):
        raise RapbenchError(f"method {method!r}: stabilizer={stabilizer} is no magnitude; set stabilizer >= 0")
    return Epsilon(stabilizer, bias)


def gamma_rule(method: str, gamma: float, bias: Bias) -> Gamma:
    """Return the gamma rule; RapbenchError for a gamma that is no magnitude."""
    if not 0 <= gamma < float("inf"):
        raise RapbenchError(f"method {method!r}: gamma={gamma} is no magnitude; set gamma >= 0")
    return Gamma(gamma, bias)


def _bias(module: nn.Module, how: Bias) -> Tensor | None:
    """The bias as far as it is in the denominator."""
    bias: Tensor | None = module.bias if how == "in_denominator" else None  # type: ignore[assignment]
    return bias


def _positive(module: nn.Module, bias: Tensor | None) -> Tensor:
    """What a denominator that is not negative holds beside its products, (outputs,): `bias` and the stabilizer."""
    if bias is not None:
        return bias + STABILIZER
    weight: Tensor = module.weight  # type: ignore[assignment]
    if isinstance(module, Attended):
        return weight.new_full((1,), STABILIZER)
    transposed = isinstance(innermost(module), TRANSPOSED)
    return weight.new_full((weight.shape[1] * groups(module) if transposed else len(weight),), STABILIZER)


def _signed(
    step: Step,
    flow: Flow,
    relevance: Tensor,
    parts: list[tuple[Tensor, Tensor]],
    bias: Tensor | None,
    stabilizer: float,
) -> Tensor:
    """Hand `relevance`, overwritten, down in proportion to products of any sign."""
    total, back = shares(step.module, parts, bias)
    denominator = stabilized(total, stabilizer, signed=True)
    added = None
    if step.count_dropped:
        other = None if bias is None else per_channel(step.module, bias, denominator)
        added = beside(denominator, stabilizer, other)
    return back(step.share(flow, relevance, denominator, added=added))


def _by_weights(step: Step, flow: Flow, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Hand relevance down in proportion to weights that are not negative, whatever the input is."""
    added = _positive(step.module, bias)
    total, back = shares(step.module, [(torch.ones_like(step.inputs[0]), weight)], added)
    return back(step.share(flow, flow.relevance, total, added=per_channel(step.module, added, total)))
