"""LRP with the alpha2-beta1 rule in every layer (Bach et al. 2015), through zennit."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods._zennit import Bias, alpha_beta, lrp


@methods.register("lrp_a2b1", signs=("positive", "negative"), passes=12)
def lrp_a2b1(model: nn.Module, inputs: Tensor, targets: Tensor, *, bias: Bias = "in_denominator") -> Tensor:
    """Return relevance shaped like `inputs`; bias: whether biases take their share."""
    return lrp(model, inputs, targets, convolution=alpha_beta(2, bias), dense=alpha_beta(2, bias))
