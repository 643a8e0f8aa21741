"""Rules of pooling: the winner takes all under a maximum, averages share in proportion to the activations."""

from torch import Tensor, nn

from rapbench.relevance.canonical import Mean
from rapbench.relevance.rules import Step, rule, transpose


@rule(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
def max_pool(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R_i = sum of R_j over the windows j that i wins (the first of equals)."""
    (x,) = step.inputs
    _, back = step.once("pool", lambda: transpose(step.module, x))
    return (back(relevance),)


@rule(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, Mean)
def average_pool(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R_i = sum_j m_i / (sum_i m_i) R_j over the windows j of which i is a member."""
    (m,) = step.inputs
    total, back = step.once("pool", lambda: transpose(step.module, m))
    return (m * back(step.share(relevance, total)),)
