"""LRP, EpsilonGammaBox: z^B in the first layer, gamma in convolutions, epsilon in dense layers [anders2021zennit]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import Bias, Box, Rule, ZBox, epsilon, gamma_rule


@methods.register("lrp_epsilon_gamma_box", title="LRP-EpsilonGammaBox", signs=("positive", "negative"), passes=7)
def lrp_epsilon_gamma_box(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    gamma: float = 0.25,
    stabilizer: float = 1e-6,
    box: Box = "pixels",
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the z^B, the gamma and the epsilon rule.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits. For `box="pixels"` a `Model` that states mean and std.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    gamma : float
        0 or more. By 1 + gamma the products of the output's sign are favoured.
    stabilizer : float
        Epsilon, 0 or more.
    box : {"pixels", "image"}
        Bounds of the first layer: what pixel values from 0 to 1 become by the model's normalisation, or each image's
        own minimum and maximum.
    bias : {"in_denominator", "ignored"}
        Whether the bias is a part of the denominator. If it is, its share of the relevance is dropped.
    balance : list, optional
        Takes the conservation check of every layer (`rapbench.relevance.Balance`).

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For gamma or epsilon below 0, for a model whose normalisation is not known, and for an operation without a rule,
        before any computation.
    """
    rules: dict[str, Rule] = {
        "first": ZBox(box),
        "convolution": gamma_rule("lrp_epsilon_gamma_box", gamma, bias),
        "dense": epsilon("lrp_epsilon_gamma_box", stabilizer, bias),
    }
    return lrp(model, inputs, targets, rules, balance=balance)
