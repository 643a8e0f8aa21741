"""LRP, EpsilonAlpha2Beta1Flat: flat in the first layer, then as EpsilonAlpha2Beta1 [anders2021zennit]."""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.lrp import lrp
from rapbench.relevance.lrp_rules import AlphaBeta, Bias, Flat, Rule, epsilon


@methods.register(
    "lrp_epsilon_alpha2_beta1_flat", title="LRP-EpsilonAlpha2Beta1Flat", signs=("positive", "negative"), passes=6
)
def lrp_epsilon_alpha2_beta1_flat(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    stabilizer: float = 1e-6,
    bias: Bias = "in_denominator",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the flat rule in the first layer, else the epsilon and the alpha2-beta1 rule.

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
    dense = epsilon("lrp_epsilon_alpha2_beta1_flat", stabilizer, bias)
    rules: dict[str, Rule] = {"first": Flat(), "convolution": AlphaBeta(2, bias), "dense": dense}
    return lrp(model, inputs, targets, rules, balance=balance)
