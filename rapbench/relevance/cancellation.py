"""Refuse relevance that grows so far beyond the logit, in parts of either sign, that rounding decides on it."""

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError

LOST = 0.01  # of the logit, what rounding may change at most: beyond that float32 and float64 were seen to lie apart


def largest_growth(dtype: torch.dtype) -> float:
    """Return how many times the logit the magnitudes of relevance may sum to: 8e4 in float32, 5e13 in float64."""
    return LOST / torch.finfo(dtype).eps


def cancels(what: str, growth: float, dtype: torch.dtype) -> RapbenchError:
    """Return the error that says so; growth: times the logit."""
    return RapbenchError(
        f"{what}: relevance grows to {growth:.1e} times the logit and cancels to it, so that rounding in "
        f"{str(dtype).removeprefix('torch.')} may change more than {LOST:.0%} of it: a sum of almost 0 is divided by; "
        "choose another rule, or one with a larger stabilizer"
    )


def refuse_cancelled(relevance: Tensor, logits: Tensor) -> None:
    """Raise RapbenchError where relevance grows beyond `largest_growth`, or is not finite.

    Parameters
    ----------
    relevance : Tensor
        (N, ...), float32 or float64.
    logits : Tensor
        (N, classes); each image's largest is the measure, so that one which happens to be 0 is none.
    """
    total, logit = relevance.abs().flatten(1).sum(1), logits.abs().amax(1)
    broken = ~(total <= largest_growth(relevance.dtype) * logit)  # NaN too
    if broken.any():
        first = int(broken.nonzero()[0])
        raise cancels(f"image {first} of the batch", float(total[first] / logit[first]), relevance.dtype)
