"""Layer-wise relevance propagation [bach2015lrp], with a rule of its own for each linear layer."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from rapbench.relevance.attnlrp import ATTNLRP
from rapbench.relevance.composites import assigned
from rapbench.relevance.engine import Balance, propagate, ready
from rapbench.relevance.lrp_layers import LRP
from rapbench.relevance.lrp_rules import Rule
from rapbench.relevance.precise import resolved

Attention = Literal["constant", "attnlrp"]
NETWORKS = {"constant": LRP, "attnlrp": ATTNLRP}


def lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    rules: Mapping[str, Rule],
    *,
    balance: list[Balance] | None = None,
    own: bool = False,
    attention: Attention = "constant",
) -> Tensor:
    """Propagate the targets' logits [bach2015lrp], each linear layer by its own rule.

    Parameters
    ----------
    model : nn.Module
        In eval mode; left as it was.
    inputs : Tensor
        (N, ...), float32 or float64.
    targets : Tensor
        (N,) indices of the classes.
    rules : mapping of str to Rule
        By the layers' names, positions or types, see `composites`.
    balance : list of Balance, optional
        A list to append to, for the conservation check.
    own : bool
        Whether the user states the rules, rather than a built-in method.
    attention : {"constant", "attnlrp"}
        Whether attention's weights are constants, and relevance goes to the values [ali2022xai], or take a share of the
        relevance [achtibat2024attnlrp].

    Returns
    -------
    Tensor
        Relevance shaped like `inputs`.

    Raises
    ------
    RapbenchError
        For an operation without a rule, and for rules that do not fit the network's layers.
    """

    def compute(model: nn.Module, inputs: Tensor, balance: list[Balance] | None) -> tuple[Tensor, Tensor]:
        network = ready(model, inputs, NETWORKS[attention])
        composite = assigned(network, model, inputs, rules, own=own)
        return propagate(network, inputs, targets, composite, {"single": 1}, balance)

    return resolved(compute, model, inputs, balance)
