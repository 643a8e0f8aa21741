"""LRP's rules of all layers: a linear layer has the rule that the composite has for it.

Batch norms are folded into the linear layer before them; those that follow none pass relevance on. Activations,
constants and gates are as in RAP; so are additions and poolings, but for the stabilizer in what is divided by.
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from rapbench.relevance.composites import Composite
from rapbench.relevance.linear import LINEAR, attention_follows
from rapbench.relevance.operations import NORMS, SAMPLE_NORMS
from rapbench.relevance.rules import RULES, Flow, Rules, Step, beside, transpose
from rapbench.relevance.statistics import offset, with_constant_deviation
from rapbench.relevance.wiring import pass_through

LRP = Rules({}, *RULES.maps, folds=True)
LRP.rule(*NORMS, keeps_inputs=False)(pass_through)


@LRP.rule(*LINEAR)
def linear(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """Apply the rule that the composite has for this layer."""
    composite: Composite = step.options
    rule = composite.rules[step.node]
    return ((rule(step, flow),) for flow in flows)


attention_follows(LRP, linear)


@LRP.rule(*SAMPLE_NORMS)
def sample_norm(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor]]:
    """R_i = sum_j x_i (d_ij - 1 / n) k_j / y_j R_j, y = norm(x): the deviation is a constant, the mean is not.

    As in [ali2022xai]. k_j is the scale divided by the deviation, n the number of the mean's inputs, and d_ij is 1
    where i = j, else 0.
    """
    (x,) = step.inputs
    value, back = transpose(lambda x: with_constant_deviation(step.module, x), x)
    total = step.denominator(value.clone(), signed=True)
    added = beside(total, step.options.stabilizer, offset(step.module, x)) if step.count_dropped else None
    for flow in flows:
        yield (back(step.share(flow, flow.relevance, total, added=added)).mul_(x),)
