"""RAP's later published variant [nam2020rap], as the authors' PyTorch release computes it.

Another rule set than `rap`: relevance starts from the absolute shares of the logit and stays in one flow, biases are
ignored, and each layer's surplus is taken back evenly, which is where negative relevance comes from.
"""

from typing import Any, Literal

from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.relevance import Options, explain
from rapbench.relevance.aaai import AAAI


@methods.register("rap_aaai", title="RAP (AAAI)", signs=("positive", "negative"), passes=8)
def rap_aaai(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    residual: Literal["proportional", "absolute"] = "proportional",
    balance: list[Any] | None = None,
) -> Tensor:
    """Return relevance shaped like `inputs`; its sum is the target logit, but for what is dropped.

    inputs: (N, C, ...). targets: (N,). residual: how additions share, as in `rap`. balance: as in `rap`. Raises
    RapbenchError for an operation without a rule, before any computation.
    """
    return explain(model, inputs, targets, Options(residual=residual), {"single": 1}, balance, AAAI)
