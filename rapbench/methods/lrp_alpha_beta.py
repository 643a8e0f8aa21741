"""LRP with the alpha-beta rule for any alpha - beta = 1 in every layer (Bach et al. 2015), through zennit."""

from torch import Tensor, nn

from rapbench.errors import RapbenchError
from rapbench.methods import methods
from rapbench.methods._zennit import Bias, alpha_beta, lrp


@methods.register("lrp_alpha_beta", signs=("positive", "negative"), passes=12)
def lrp_alpha_beta(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, alpha: float = 2.0, bias: Bias = "in_denominator"
) -> Tensor:
    """Return relevance shaped like `inputs`.

    alpha: 1 or more, beta is alpha - 1. bias: whether biases take their share. Raises RapbenchError for alpha below 1.
    """
    if alpha < 1:
        raise RapbenchError(f"method 'lrp_alpha_beta': alpha={alpha} makes beta = alpha - 1 negative; set alpha >= 1")
    rule = alpha_beta(alpha, bias)
    return lrp(model, inputs, targets, convolution=rule, dense=rule)
