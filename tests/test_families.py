"""All of torchvision's networks and timm's families: relevance conserves, or a refusal names the operation."""

import pytest

from tests.families import METHODS, NAMES, outcomes

REASONS = ("rule for", "traced", "first propagation", "apart", "cancels")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_relevance_is_finite_and_conserved_or_refused_by_name(name):
    found = list(outcomes(name))
    assert [outcome.method for outcome in found] == list(METHODS)
    for outcome in found:
        if outcome.refused:
            assert any(words in outcome.refused for words in REASONS)
        else:
            assert outcome.missing < 1e-6, outcome
