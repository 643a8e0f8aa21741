"""LRP with the alpha-beta rule for any alpha - beta = 1 in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import everywhere
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import Bias, alpha_beta


@methods.register("lrp_alpha_beta", title="LRP-αβ", signs=("positive", "negative"), passes=6)
def lrp_alpha_beta(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    alpha: float = 2.0,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the alpha-beta rule.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    alpha : float
        1 or more; beta is alpha - 1.
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
        For alpha below 1, and for an operation without a rule, before any computation.
    """
    rules = everywhere(alpha_beta("lrp_alpha_beta", alpha, bias))
    return lrp(model, inputs, targets, rules, balance=balance)
