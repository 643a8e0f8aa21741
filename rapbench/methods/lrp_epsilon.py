"""LRP with the epsilon rule in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import everywhere
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import Bias, epsilon


@methods.register("lrp_epsilon", title="LRP-ε", signs=("positive", "negative"), passes=4)
def lrp_epsilon(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    stabilizer: float = 0.1,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the epsilon rule.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    stabilizer : float
        Epsilon, 0 or more.
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
        For epsilon below 0, and for an operation without a rule, before any computation.
    """
    rules = everywhere(epsilon("lrp_epsilon", stabilizer, bias))
    return lrp(model, inputs, targets, rules, balance=balance)
