"""The rule of batch normalisation, which is not folded into the convolution before it."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rapbench.relevance.images import to_rows
from rapbench.relevance.operations import NORMS
from rapbench.relevance.rules import Flow, Step, rule


@rule(*NORMS)
def batch_norm(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R' = R - kappa (S' - mean(S')) / (w h c), S = BN(z) - z, S' = S where R is not 0, else 0 (RAP eq. 11).

    z: (N, C, *spatial), what flows into the normalisation. The mean is over all of a sample's units, so that the
    correction sums to 0.
    """
    if not step.options.batchnorm_correction:
        yield from ((flow.relevance,) for flow in flows)
        return
    (z,) = step.inputs
    norm: nn.BatchNorm2d = step.module  # type: ignore[assignment]
    weight, bias = step.constant("shift", lambda: _shift(norm))
    everywhere = F.batch_norm(z, norm.running_mean, norm.running_var, weight, bias, eps=norm.eps)
    scratch = torch.empty_like(everywhere)
    units = everywhere.numel() // step.batch
    for flow in flows:
        relevance, share = flow.relevance, flow.kappa / units
        shift = torch.ne(relevance, 0, out=scratch).mul_(everywhere)
        average = to_rows(step.per_image(shift) / units, z)
        yield (relevance.sub_(shift, alpha=share).add_(average, alpha=share),)


def _shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BN(z) - z = (z - mu) (gamma - sigma) / sigma + beta - mu is a normalisation itself: its weight and bias."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    gamma, beta = 1 if norm.weight is None else norm.weight, 0 if norm.bias is None else norm.bias
    return gamma - (var + norm.eps).sqrt(), beta - mean
