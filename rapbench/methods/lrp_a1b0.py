"""LRP with the alpha1-beta0 rule in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import AlphaBeta, Bias, lrp


@methods.register("lrp_a1b0", title="LRP-α1β0", signs=("positive",), passes=4)  # noqa: RUF001
def lrp_a1b0(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`; bias: whether biases take their share; balance: as in `rap`."""
    rule = AlphaBeta(1, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule, balance=balance)
