"""LRP with the alpha1-beta0 rule in every layer (Bach et al. 2015), through zennit."""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods._zennit import Bias, alpha_beta, lrp


@methods.register("lrp_a1b0", signs=("positive",), passes=10)
def lrp_a1b0(model: nn.Module, inputs: Tensor, targets: Tensor, *, bias: Bias = "in_denominator") -> Tensor:
    """Return relevance shaped like `inputs`; bias: whether biases take their share."""
    return lrp(model, inputs, targets, convolution=alpha_beta(1, bias), dense=alpha_beta(1, bias))
