"""The rules of RAP's later published variant, as the authors' PyTorch release computes them (`rap_aaai`)."""

from timm.layers import Conv2dSame
from torch import Tensor, nn

from rapbench.relevance.linear import CONVOLUTIONS, Padded, magnitude, shares, zbox
from rapbench.relevance.rules import RULES, Rules, Step, divisor, per_sample

AAAI = Rules({}, *RULES.maps)


@AAAI.rule(nn.Linear, *CONVOLUTIONS, Conv2dSame, Padded)
def linear(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor | None]:
    """z^B at the input; elsewhere shares over excitatory and inhibitory weights, and the surplus taken back evenly.

    With P_j, N_j the sums of excitatory and inhibitory products' magnitudes (of m w; behind a ReLU those are m w+ and
    m |w-|), where P_j + N_j is not 0: P's shares of R_j+, N's shares of N_j / (P_j + N_j) R_j, and R_j- once more in
    full, over P's shares in a fully connected layer and N's in a convolution. Then
    R_i = C_i - [C_i != 0] (sum C - sum R) / #{C != 0}, per sample. Biases take no part.
    """
    if step.first:
        return (zbox(step, relevance),)
    (m,) = step.inputs
    weight: Tensor = step.module.weight  # type: ignore[assignment]
    same, opposite = [(m, magnitude(weight, 1))], [(m, magnitude(weight, -1))]
    if not step.nonnegative[0]:
        up, down = magnitude(m, 1), magnitude(m, -1)
        same = [(up, magnitude(weight, 1)), (down, magnitude(weight, -1))]
        opposite = [(up, magnitude(weight, -1)), (down, magnitude(weight, 1))]
    excitatory, inhibitory = shares(step.module, same), shares(step.module, opposite)
    p, n = excitatory[0], inhibitory[0]
    over_p, over_n = relevance.clamp(min=0), n / divisor(p + n, signed=False) * relevance
    once_more = over_p if isinstance(step.module, nn.Linear) else over_n
    once_more += relevance.clamp(max=0)
    handed = excitatory[1](over_p / divisor(p, signed=False)) + inhibitory[1](over_n / divisor(n, signed=False))
    touched = handed.ne(0)
    surplus = (per_sample(handed) - per_sample(relevance)) / per_sample(touched).clamp(min=1)
    result = handed - touched * surplus.view(-1, *[1] * (m.dim() - 1))
    if step.count_dropped:  # only where nothing could take it
        step.dropped = per_sample(relevance) - per_sample(result)
    return (result,)


@AAAI.rule(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
def batch_norm(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R_i = R_i where the input and the scale are not 0, else 0."""
    (z,) = step.inputs
    weight: Tensor | None = step.module.weight  # type: ignore[assignment]
    product = z if weight is None else z * weight.view(-1, *[1] * (z.dim() - 2))
    passed = relevance.masked_fill(product == 0, 0)
    if step.count_dropped:
        step.dropped = per_sample(relevance - passed)
    return (passed,)


def seed(head: nn.Linear, features: Tensor, targets: Tensor, logits: Tensor) -> Tensor:
    """r_i = z_i (1 + b / sum z), then R_i = |r_i| / sum |r| * sum r, so that the sum is the logit; (N, D)."""
    z = features * head.weight[targets]
    bias = 0 if head.bias is None else head.bias[targets].unsqueeze(1)
    r = z * (1 + bias / divisor(z.sum(1, keepdim=True), signed=True))
    return r.abs() / divisor(r.abs().sum(1, keepdim=True), signed=False) * r.sum(1, keepdim=True)
