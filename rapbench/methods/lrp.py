"""LRP with a composite of one's own: a rule for each layer, by its name, position or type [montavon2019layer].

For example::

    rules = {"first": "zbox", "layer4.*": "epsilon", "convolution": {"rule": "gamma", "gamma": 0.5}, "dense": "epsilon"}
    R = rapbench.attribute(model, x, targets, method="lrp", rules=rules)
"""

from typing import Any

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance.composites import Stated, from_stated
from rapbench.relevance.lrp import Attention
from rapbench.relevance.lrp import lrp as propagate


@methods.register("lrp", title="LRP", signs=("positive", "negative"), passes=6)
def lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    rules: Stated | None = None,
    attention: Attention = "constant",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by the rules that `rules` states.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    rules : mapping, optional
        From a layer's name, a pattern of names with *, ? and [], a position ("first", "last"), or a type
        ("convolution", "dense", "Conv2d", ...) to a rule: its name, or {"rule": name, option: value}. Of several that
        speak of a layer the one named first here counts. Rules: "alpha_beta" (alpha, bias), "epsilon" (stabilizer,
        bias), "flat", "gamma" (gamma, bias), "wsquare" (bias), "zbox" (box), "zplus" (bias). By default
        {"convolution": "zplus", "dense": "epsilon"}.
    attention : {"constant", "attnlrp"}
        Attention's weights are constants, or take relevance too, by AttnLRP's rules. An extension of the paper.
    balance : list, optional
        Takes the conservation check of every layer (`rapbench.relevance.Balance`).

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For an unknown rule or option, a name of no layer, a layer without a rule, and for an operation without a rule,
        before any computation.
    """
    stated = from_stated({"convolution": "zplus", "dense": "epsilon"} if rules is None else rules)
    return propagate(model, inputs, targets, stated, balance=balance, attention=attention, own=True)
