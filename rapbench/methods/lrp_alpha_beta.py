"""LRP with the alpha-beta rule for any alpha - beta = 1 in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import Bias, alpha_beta, lrp


@methods.register("lrp_alpha_beta", title="LRP-αβ", signs=("positive", "negative"), passes=6)
def lrp_alpha_beta(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    alpha: float = 2.0,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`.

    alpha: 1 or more, beta is alpha - 1. bias: whether biases take their share. balance: as in `rap`. Raises
    RapbenchError for alpha below 1.
    """
    rule = alpha_beta("lrp_alpha_beta", alpha, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule, balance=balance)
