"""LRP, preset A: epsilon in fully connected layers, alpha1-beta0 in convolutions [lapuschkin2017understanding].

Epsilon is that of the paper's software.
"""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import AlphaBeta, Bias, epsilon, lrp


@methods.register("lrp_preset_a", title="LRP-PresetA", signs=("positive",), passes=4)
def lrp_preset_a(
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
    dense = epsilon("lrp_preset_a", stabilizer, bias)
    return lrp(model, inputs, targets, convolution=AlphaBeta(1, bias), dense=dense, balance=balance)
