"""LRP with the alpha1-beta0 rule in every layer [bach2015lrp]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import everywhere
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import AlphaBeta, Bias


@methods.register("lrp_a1b0", title="LRP-α1β0", signs=("positive",), passes=4)  # noqa: RUF001
def lrp_a1b0(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the alpha-beta rule with alpha 1 and beta 0.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
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
        For an operation without a rule, before any computation.
    """
    return lrp(model, inputs, targets, everywhere(AlphaBeta(1, bias)), balance=balance)
