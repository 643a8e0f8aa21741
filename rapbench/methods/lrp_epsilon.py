"""LRP with the epsilon rule in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import Bias, epsilon, lrp


@methods.register("lrp_epsilon", title="LRP-ε", signs=("positive", "negative"), passes=4)
def lrp_epsilon(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    stabilizer: float = 0.1,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`.

    stabilizer: epsilon, 0 or more. bias: whether biases take their share. balance: as in `rap`.
    """
    rule = epsilon("lrp_epsilon", stabilizer, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule, balance=balance)
