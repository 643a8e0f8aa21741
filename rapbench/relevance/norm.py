"""The rule of batch normalisation, which is not folded into the convolution before it."""

from torch import Tensor, nn

from rapbench.relevance.rules import Step, rule


@rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R' = R - kappa (S' - mean(S')) / (w h c), S = BN(z) - z, S' = S where R is not 0, else 0 (RAP eq. 11).

    z: (N, C, *spatial), what flows into the normalisation. The mean is over all of a sample's units, so that the
    correction sums to 0.
    """
    if not step.options.batchnorm_correction:
        return (relevance,)
    (z,) = step.inputs
    shift = step.once("shift", lambda: step.module(z) - z)
    shift = shift.masked_fill(relevance == 0, 0)
    units = shift[0].numel()
    mean = shift.flatten(1).mean(1).view(-1, *[1] * (z.dim() - 1))
    return (relevance - kappa * (shift - mean) / units,)
