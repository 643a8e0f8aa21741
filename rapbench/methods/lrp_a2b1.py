"""LRP with the alpha2-beta1 rule in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import AlphaBeta, Bias, lrp


@methods.register("lrp_a2b1", title="LRP-α2β1", signs=("positive", "negative"), passes=6)  # noqa: RUF001
def lrp_a2b1(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`; bias: whether biases take their share; balance: as in `rap`."""
    rule = AlphaBeta(2, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule, balance=balance)
