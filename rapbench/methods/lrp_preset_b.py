"""LRP, preset B: epsilon in fully connected layers, alpha2-beta1 in convolutions (Lapuschkin et al. 2017).

Through zennit; epsilon as in the paper's software.
"""

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods._zennit import Bias, alpha_beta, epsilon, lrp


@methods.register("lrp_preset_b", signs=("positive", "negative"), passes=14)
def lrp_preset_b(
    model: nn.Module, inputs: Tensor, targets: Tensor, *, stabilizer: float = 0.1, bias: Bias = "in_denominator"
) -> Tensor:
    """Return relevance shaped like `inputs`; stabilizer: epsilon; bias: whether biases take their share."""
    return lrp(model, inputs, targets, convolution=alpha_beta(2, bias), dense=epsilon(stabilizer, bias))
