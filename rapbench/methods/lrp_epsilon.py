"""LRP with the epsilon rule in every layer (Bach et al. 2015), through zennit."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods._zennit import Bias, epsilon, lrp


@methods.register("lrp_epsilon", signs=("positive", "negative"), passes=10)
def lrp_epsilon(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, stabilizer: float = 0.1, bias: Bias = "in_denominator"
) -> Tensor:
    """Return relevance shaped like `inputs`; stabilizer: epsilon; bias: whether biases take their share."""
    rule = epsilon(stabilizer, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule)
