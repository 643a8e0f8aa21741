"""LRP, preset B: epsilon in fully connected layers, alpha2-beta1 in convolutions [lapuschkin2017understanding].

Epsilon is that of the paper's software.
"""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import AlphaBeta, Bias, epsilon, lrp


@methods.register("lrp_preset_b", title="LRP-PresetB", signs=("positive", "negative"), passes=6)
def lrp_preset_b(
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
    dense = epsilon("lrp_preset_b", stabilizer, bias)
    return lrp(model, inputs, targets, convolution=AlphaBeta(2, bias), dense=dense, balance=balance)
