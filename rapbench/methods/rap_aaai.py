"""RAP's later published variant [nam2020rap], as the authors' PyTorch release computes it.

The rules differ from those of `rap`. Relevance starts from the absolute shares of the target logit and has one flow.
Biases are ignored. Each layer's surplus is subtracted evenly, which makes some relevance negative.
"""

from typing import Any, Literal

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance import Options, explain
from rapbench.relevance.aaai import AAAI


@methods.register("rap_aaai", title="RAP (AAAI)", signs=("positive", "negative"), passes=28)
def rap_aaai(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    residual: Literal["proportional", "absolute"] = "proportional",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance by RAP's later variant.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    residual : {"proportional", "absolute"}
        Additions distribute relevance in proportion to the summands, or to their magnitudes.
    balance : list, optional
        Takes the conservation check of every layer (`rapbench.relevance.Balance`).

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. Without dropped relevance it sums to the target logit.

    Raises
    ------
    RapbenchError
        For an operation without a rule, before any computation.
    """
    return explain(model, inputs, targets, Options(residual=residual), {"single": 1}, balance, AAAI)
