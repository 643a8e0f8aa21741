"""How much of a heatmap rounding may decide on: relevance is divided by sums whose parts may cancel.

At a sum z = a + b that is almost 0, z is known to eps |a| / |z|, and a's share a / z R is as many times R: its error is
eps (a / z)^2 |R|. On its way down, that error meets further such sums, often at the same unit of a residual stream.
"""

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.relevance import images

LOST = 0.01  # of a heatmap, or of the logit, what rounding may change
# Times the sum of these errors, for what becomes of it on its way: measured, so that it is over LOST for every heatmap
# that such sums put off by more than that, as against float64 (python -m benchmarks.rounding).
AMPLIFIED = 800


def rounding_error(summand: Tensor, total: Tensor, relevance: Tensor, batch: int) -> Tensor:
    """Return each image's relative rounding error of relevance, (batch,), where it is divided by a sum.

    Parameters
    ----------
    summand : Tensor
        (rows, ...) one of two summands, or half the sum of all magnitudes: as good as equal where they cancel.
    total : Tensor
        Their sum, which is divided by; infinite where all relevance is dropped.
    relevance : Tensor
        Of the sum.
    batch : int
        The number of images.
    """
    error = (summand / total).square_().mul_(relevance).abs_()
    magnitude = images.per_image(relevance.abs(), batch).clamp_(min=torch.finfo(error.dtype).tiny)
    return images.per_image(error, batch).div_(magnitude).mul_(torch.finfo(error.dtype).eps)


def lost(relevance: Tensor, logits: Tensor, rounding_error: Tensor) -> Tensor:
    """Return about which share of each image's heatmap, (N,), rounding decides on; NaN where it is not finite.

    Parameters
    ----------
    relevance : Tensor
        (N, ...) of the input.
    logits : Tensor
        (N, classes). Parts that sum to many times the largest and cancel to it are rounded as often as coarsely.
    rounding_error : Tensor
        (N,) that of `rounding_error`, summed over the layers.
    """
    finfo = torch.finfo(relevance.dtype)
    growth = relevance.abs().flatten(1).sum(1) / logits.abs().amax(1).clamp(min=finfo.tiny)
    return torch.maximum(growth * finfo.eps, AMPLIFIED * rounding_error)


def cancels(what: str, dtype: torch.dtype) -> RapbenchError:
    """Return the error that says that relevance is lost to rounding."""
    return RapbenchError(
        f"{what}: relevance cancels, and rounding in {str(dtype).removeprefix('torch.')} may change more than "
        f"{LOST:.0%} of it: a sum of almost 0 is divided by; choose another rule, or one with a larger stabilizer"
    )
