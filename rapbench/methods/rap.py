"""Relative Attributing Propagation [nam2019rap], version 1 of the paper.

The target logit is distributed to the last layer's inputs by sign (5). A normal flow (7) and an inversion flow (8)
propagate that relevance, each corrected for biases (10) and batch normalisation (11). The input's relevance is the sum
of both (9)::

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
    """Return relevance by RAP; without dropped relevance each flow sums to 0.

    Relevance is dropped where a denominator is zero, as at a unit without excitatory inputs. The options are the points
    that the paper leaves open.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    flow : {"both", "normal", "inversion"}
        The sum of both flows, or one of them.
    inversion_sign : {"keep", "flip"}
        Whether relevance keeps its sign in the inversion flow, or changes it at every layer below the last.
    mixed_sign : {"joint", "printed"}
        For inputs of both signs: one joint ratio, which conserves relevance, or the two printed ratios.
    bias_divisor : {"area", "area_squared"}
        Divisor of the bias correction: the area of the output map, or its square.
    input_rule : {"zbox", "zbox_swapped", "same_as_hidden"}
        Rule of the first layer: z^B [montavon2017dtd], z^B with its bounds exchanged, or the rule of hidden layers.
    residual : {"proportional", "absolute"}
        Additions distribute relevance in proportion to the summands, or to their magnitudes.
    bias_correction, batchnorm_correction : bool
        Whether relevance is corrected for biases and for batch normalisation.
    balance : list, optional
        Takes the conservation check of every layer and flow (`rapbench.relevance.Balance`).

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.

    Raises
    ------
    RapbenchError
        For an operation without a rule, before any computation.
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
