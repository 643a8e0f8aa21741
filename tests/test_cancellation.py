"""Relevance that grows far beyond the logit and cancels to it is refused in the precision that does not resolve it.

Captum's LRP keeps its own account: tests/test_captum_lrp.py.
"""

import pytest
import torch
from torch import nn

import rapbench
from rapbench.methods import methods
from tests.options import PROPAGATED, QUICK_METHODS


class Almost(nn.Module):
    """Adds to each half of an image almost the negative of the other, its equal: a rule divides by what is left."""

    def __init__(self, times: int):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4 * 32, 5, bias=False)
        self.times = times

    def forward(self, x):
        h = self.relu(self.conv(x))
        for _ in range(self.times):
            h = (h + -0.99 * torch.roll(h, 4, 3)) * 100
        return self.head(h.flatten(1))


def explained(method, times, dtype):
    torch.manual_seed(0)
    half = torch.randn(2, 3, 4, 4)
    network, x = Almost(times).eval().to(dtype), torch.cat([half, half], 3).to(dtype)
    options = QUICK_METHODS.get(method, {})
    if "stabilizer" in methods[method].options:
        options = options | {"stabilizer": 1e-9}  # one that is large bounds it
    return rapbench.attribute(network, x, 1, method, **options)


@pytest.mark.parametrize("method", PROPAGATED)
def test_refused_in_the_precision_that_does_not_resolve_it(method):
    with pytest.raises(rapbench.RapbenchError, match=r"image . of the batch: relevance grows to"):
        explained(method, 4, torch.float32)
    assert explained(method, 4, torch.float64).isfinite().all()


@pytest.mark.parametrize("method", PROPAGATED)
def test_given_where_both_precisions_resolve_it(method):
    found, exact = explained(method, 1, torch.float32), explained(method, 1, torch.float64)
    assert (found - exact).abs().max() < 1e-3 * exact.abs().max()
