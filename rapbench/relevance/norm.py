"""RAP's rules of normalisations: by running statistics, not folded into the layer before, and by the sample's own."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rapbench.relevance.images import to_rows
from rapbench.relevance.operations import NORMS, SAMPLE_NORMS
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
    yield from _corrected(step, flows, F.batch_norm(z, norm.running_mean, norm.running_var, weight, bias, eps=norm.eps))


@rule(*SAMPLE_NORMS)
def sample_norm(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """As `batch_norm`, with S = norm(z) - z, where the statistics are the sample's own."""
    if not step.options.batchnorm_correction:
        yield from ((flow.relevance,) for flow in flows)
        return
    (z,) = step.inputs
    yield from _corrected(step, flows, step.module(z).sub_(z))


def _corrected(step: Step, flows: Sequence[Flow], everywhere: Tensor) -> Iterator[tuple[Tensor]]:
    """R' = R - kappa (S' - mean(S')) / units; everywhere: S, which is shaped like the input, (rows, ...)."""
    scratch = torch.empty_like(everywhere)
    units = everywhere.numel() // step.images_in(everywhere)
    for flow in flows:
        relevance, share = flow.relevance, flow.kappa / units
        shift = torch.ne(relevance, 0, out=scratch).mul_(everywhere)
        average = to_rows(step.per_image(shift) / units, everywhere)
        yield (relevance.sub_(shift, alpha=share).add_(average, alpha=share),)


def _shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """BN(z) - z = (z - mu) (gamma - sigma) / sigma + beta - mu is a normalisation itself: its weight and bias."""
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    gamma, beta = 1 if norm.weight is None else norm.weight, 0 if norm.bias is None else norm.bias
    return gamma - (var + norm.eps).sqrt(), beta - mean
