"""The rule of batch normalisation, which is not folded into the convolution before it."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rapbench.relevance.operations import NORMS
from rapbench.relevance.rules import Flow, Step, per_sample, rule


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
    mean, var, weight, bias = step.constant("moments", lambda: _moments(step.module))
    everywhere = F.batch_norm(z, mean, var, weight, bias, eps=0.0)
    scratch = torch.empty_like(everywhere)
    units = everywhere[0].numel()
    for flow in flows:
        relevance, share = flow.relevance, flow.kappa / units
        shift = torch.ne(relevance, 0, out=scratch).mul_(everywhere)
        average = (per_sample(shift) / units).view(-1, *[1] * (z.dim() - 1))
        yield (relevance.sub_(shift, alpha=share).add_(average, alpha=share),)


def _moments(module: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """BN(z) - z = (z - mu) (gamma - sigma) / sigma + beta - mu is a normalisation itself: its four vectors."""
    norm: nn.BatchNorm2d = module  # type: ignore[assignment]
    mean, var = norm.running_mean, norm.running_var
    assert mean is not None
    assert var is not None
    sigma = (var + norm.eps).sqrt()
    gamma, beta = 1 if norm.weight is None else norm.weight, 0 if norm.bias is None else norm.bias
    return mean, var + norm.eps, gamma - sigma, beta - mean
