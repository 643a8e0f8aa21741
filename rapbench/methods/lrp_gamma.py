"""LRP with the gamma rule in every layer [montavon2019layer], for inputs of both signs [andeol2021learning]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import everywhere
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import Bias, gamma_rule


@methods.register("lrp_gamma", title="LRP-γ", signs=("positive", "negative"), passes=7)  # noqa: RUF001
def lrp_gamma(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    gamma: float = 0.25,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the gamma rule.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    gamma : float
        0 or more. By 1 + gamma the products of the output's sign are favoured.
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
        For gamma below 0, and for an operation without a rule, before any computation.
    """
    rules = everywhere(gamma_rule("lrp_gamma", gamma, bias))
    return lrp(model, inputs, targets, rules, balance=balance)
