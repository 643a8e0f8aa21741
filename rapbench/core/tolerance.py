"""How far two ways to compute the same logits may lie apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

FEW = 4  # images to compare on: what tracing gets wrong does not depend on the image


def difference(one: Any, other: Any) -> float:
    """Return the largest difference of two models' logits, (N, classes), as a share of an image's largest; or inf."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor) or one.shape != other.shape:
        return torch.inf
    if torch.equal(one, other):
        return 0.0
    apart = (one.double() - other.double()).abs().flatten(1).amax(1)
    scale = other.double().abs().flatten(1).amax(1).clamp(min=torch.finfo(other.dtype).tiny)
    largest = float((apart / scale).max())
    return largest if largest == largest else torch.inf  # NaN, of one of them


def tolerance(logits: Tensor) -> float:
    """Return how much two ways to compute the same logits may differ by rounding, as a share of the largest."""
    return float(torch.finfo(logits.dtype).eps ** 0.5)


@contextmanager
def full_precision() -> Iterator[None]:
    """Let no GPU round what it multiplies to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
