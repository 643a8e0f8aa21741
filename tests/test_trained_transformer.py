"""What relevance says of a transformer that has learned something."""

import pandas as pd
import pytest

from tests.digits import still_recognised

METHODS = ["rap", "lrp_epsilon", "lrp_a1b0", "attnlrp", "attention_rollout", "random"]


@pytest.fixture(scope="module")
def accuracy() -> pd.Series:
    """By sign and method."""
    return still_recognised(METHODS, 250)


@pytest.mark.parametrize("method", [method for method in METHODS if method != "random"])
def test_the_most_relevant_pixels_matter_more_than_random_ones(accuracy, method):
    assert accuracy["positive", method] < accuracy["positive", "random"] - 0.05


@pytest.mark.parametrize("method", ["lrp_epsilon", "attnlrp"])
def test_lrp_finds_what_counts_for_a_digit_and_what_counts_against_it(accuracy, method):
    assert accuracy["positive", method] < 0.8 * accuracy["positive", "random"]
    assert accuracy["negative", method] > accuracy["negative", "random"]
