"""AttnLRP [achtibat2024attnlrp]: the epsilon or the gamma rule in linear layers, and relevance through attention."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import everywhere
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import Bias, epsilon, gamma_rule


@methods.register("attnlrp", title="AttnLRP", signs=("positive", "negative"), passes=4)
def attnlrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    gamma: float = 0.0,
    stabilizer: float = 1e-6,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by AttnLRP's rules for attention.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    gamma : float
        Of the gamma rule in linear layers; with 0 they have the epsilon rule.
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
        For gamma or epsilon below 0, and for an operation without a rule, before any computation.
    """
    rule = gamma_rule("attnlrp", gamma, bias) if gamma else epsilon("attnlrp", stabilizer, bias)
    return lrp(model, inputs, targets, everywhere(rule), balance=balance, attention="attnlrp")
