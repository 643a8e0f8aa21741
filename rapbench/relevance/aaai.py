"""The rules of RAP's later published variant, as the authors' PyTorch release computes them (`rap_aaai`)."""

from collections.abc import Iterator, Sequence

from torch import Tensor, nn

from rapbench.relevance.images import to_rows
from rapbench.relevance.linear import LINEAR, Attended, Folded, attention_follows, products, shares
from rapbench.relevance.operations import NORMS, SAMPLE_NORMS
from rapbench.relevance.rap import zbox
from rapbench.relevance.rules import RULES, Flow, Rules, Step, divisor
from rapbench.relevance.wiring import pass_through


def seed(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum_j |z_ij| / sum_i |z_ij| R_j, in the last layer.

    As r_i = z_i (1 + b / sum z), whose sum is the logit, with all shares made absolute: the factor is one for all.
    """
    (m,) = step.inputs
    weight = step.constant("magnitude", lambda: step.module.weight.abs())  # type: ignore[operator]
    total, back = shares(step.module, [(m if step.nonnegative[0] else m.abs(), weight)])
    total = divisor(total, signed=False)
    for flow in flows:
        yield (back(step.share(flow, flow.relevance, total)),)


AAAI = Rules({}, *RULES.maps, head=seed)


@AAAI.rule(*(kind for kind in LINEAR if kind is not Folded))
def linear(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor | None]]:
    """z^B at the input; elsewhere shares over excitatory and inhibitory weights, and the surplus taken back evenly.

    With P_j, N_j the sums of excitatory and inhibitory products' magnitudes (of m w; behind a ReLU those are m w+ and
    m |w-|), where P_j + N_j is not 0: P's shares of R_j+, N's shares of N_j / (P_j + N_j) R_j, and R_j- once more in
    full, over P's shares in a fully connected layer and N's in a convolution. Then
    R_i = C_i - [C_i != 0] (sum C - sum R) / #{C != 0}, per sample. Biases take no part.
    """
    if step.first:
        return zbox(step, flows)
    return ((_hidden(step, flow),) for flow in flows)


def _hidden(step: Step, flow: Flow) -> Tensor:
    relevance = flow.relevance
    (m,) = step.inputs
    excitatory, inhibitory = (
        shares(step.module, products(step, m, sign, nonnegative=step.nonnegative[0])) for sign in (1, -1)
    )
    p, n = excitatory[0], inhibitory[0]
    over_p, over_n = relevance.clamp(min=0), n / divisor(p + n, signed=False) * relevance
    once_more = over_p if isinstance(step.module, (nn.Linear, Attended)) else over_n
    once_more += relevance.clamp(max=0)
    handed = excitatory[1](over_p / divisor(p, signed=False)) + inhibitory[1](over_n / divisor(n, signed=False))
    touched = handed.ne(0)
    surplus = (step.per_image(handed) - step.per_image(relevance)) / step.per_image(touched).clamp(min=1)
    result = handed - touched * to_rows(surplus, m)
    if step.count_dropped:  # only where nothing could take it
        flow.dropped = step.per_image(relevance) - step.per_image(result)
    return result


attention_follows(AAAI, linear)
AAAI.rule(*SAMPLE_NORMS, keeps_inputs=False)(pass_through)


@AAAI.rule(*NORMS)
def batch_norm(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = R_i where the input and the scale are not 0, else 0."""
    (z,) = step.inputs
    weight: Tensor | None = step.module.weight  # type: ignore[assignment]
    product = z if weight is None else z * weight.view(-1, *[1] * (z.dim() - 2))
    stopped = product == 0
    for flow in flows:
        passed = flow.relevance.masked_fill(stopped, 0)
        if step.count_dropped:
            flow.dropped = step.per_image(flow.relevance - passed)
        yield (passed,)
