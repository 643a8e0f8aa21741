"""What relevance says of a transformer that has learned something."""

import pandas as pd
import pytest
import torch

import rapbench
from tests.digits import trained

METHODS = ["rap", "lrp_epsilon", "lrp_a1b0", "attnlrp", "attention_rollout", "random"]
REMOVED = 13  # of 64 pixels


@pytest.fixture(scope="module")
def accuracy() -> pd.Series:
    """The share of digits that is still recognised without the most relevant pixels of a sign: (sign, method)."""
    network, images, labels = trained()
    with torch.no_grad():
        right = network(images).argmax(1) == labels
    assert right.float().mean() > 0.9
    k = {sign: [0, REMOVED] for sign in ("positive", "negative")}
    results = rapbench.evaluate(
        network, images[right][:250], labels[right][:250], methods=METHODS, protocols={"removal": ("removal", {"k": k})}
    )
    frame = results.runs[0].frame
    removed = frame[(frame.metric == "accuracy") & (frame.k.astype(str) == str(REMOVED))]
    return removed.groupby(["variant", "method"], observed=True).value.mean()


@pytest.mark.parametrize("method", [method for method in METHODS if method != "random"])
def test_the_most_relevant_pixels_matter_more_than_random_ones(accuracy, method):
    assert accuracy["positive", method] < accuracy["positive", "random"] - 0.05


@pytest.mark.parametrize("method", ["lrp_epsilon", "attnlrp"])
def test_lrp_finds_what_counts_for_a_digit_and_what_counts_against_it(accuracy, method):
    assert accuracy["positive", method] < 0.8 * accuracy["positive", "random"]
    assert accuracy["negative", method] > accuracy["negative", "random"]
