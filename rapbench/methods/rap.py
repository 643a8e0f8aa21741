"""Relative Attributing Propagation [nam2019rap], version 1 of the paper.

The target logit is shared among the last layer's inputs by sign (5); a normal (7) and an inversion flow (8) carry that
relevance down, each corrected for biases (10) and batch normalisation (11); the input gets the sum of both (9)::

    R = rapbench.attribute(model, x, targets, method="rap", flow="normal")
"""

from typing import Any, Literal

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance import FLOWS, Options, explain


@methods.register("rap", title="RAP", signs=("positive", "negative"), passes=6)
def rap(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    flow: Literal["both", "normal", "inversion"] = "both",
    inversion_sign: Literal["keep", "flip"] = "keep",
    mixed_sign: Literal["joint", "printed"] = "joint",
    bias_divisor: Literal["area", "area_squared"] = "area",
    input_rule: Literal["zbox", "zbox_swapped", "same_as_hidden"] = "zbox",
    residual: Literal["proportional", "absolute"] = "proportional",
    bias_correction: bool = True,
    batchnorm_correction: bool = True,
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`; each flow's sum is 0 but for what vanishing denominators drop.

    inputs: (N, C, ...). targets: (N,). The options are the points that the paper leaves open; `balance`, a list, takes
    the books (relevance.Balance) of every layer and flow. Raises RapbenchError for an operation without a rule, before
    any computation.
    """
    options = Options(
        residual=residual,
        inversion_sign=inversion_sign,
        mixed_sign=mixed_sign,
        bias_divisor=bias_divisor,
        input_rule=input_rule,
        bias_correction=bias_correction,
        batchnorm_correction=batchnorm_correction,
    )
    flows = {name: kappa for name, kappa in FLOWS.items() if flow in ("both", name)}
    return explain(model, inputs, targets, options, flows, balance)
