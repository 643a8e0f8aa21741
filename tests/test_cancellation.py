"""Relevance that is divided by sums which cancel is computed in the precision that resolves it, or refused.

Captum's LRP keeps its own account: tests/test_captum_lrp.py.
"""

import contextlib
import copy
import threading

import pytest
import torch
from torch import nn

import rapbench
from rapbench.methods import methods
from rapbench.relevance import engine, images, lrp
from rapbench.relevance.cancellation import LOST, lost, rounding_error
from tests.options import PROPAGATED, QUICK_METHODS


class Almost(nn.Module):
    """Adds to each half of an image almost the negative of the other, its equal: a rule divides by what is left."""

    def __init__(self, times: int, left: float = 0.01):
        super().__init__()
        self.conv, self.relu, self.head = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Linear(4 * 32, 5, bias=False)
        self.times, self.left = times, left

    def forward(self, x):
        h = self.relu(self.conv(x))
        for _ in range(self.times):
            h = (h + (self.left - 1) * torch.roll(h, 4, 3)) / self.left
        return self.head(h.flatten(1))


class Unit(nn.Module):
    """Adds to one unit almost its own negative; the norm behind lets as much relevance reach it as its neighbours."""

    def __init__(self, left: float = 1e-4):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU()
        self.second, self.head = nn.Conv2d(4, 6, 3), nn.Linear(6 * 12, 5)
        scale = torch.full((4, 4, 8), 0.5)
        scale[:, 1, 3] = left - 1
        self.register_buffer("scale", scale)
        with torch.no_grad():
            self.norm.running_mean.copy_(torch.linspace(-1, 1, 4))
            self.norm.bias.fill_(0.5)

    def forward(self, x):
        h = self.conv(x)
        h = self.relu(self.norm(h + self.scale * torch.roll(h, 4, 3)))
        return self.head(self.relu(self.second(h)).flatten(1))


def halves():
    half = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    return torch.cat([half, half], 3)


def network_of(kind, dtype, *args):
    torch.manual_seed(0)
    return kind(*args).eval().to(dtype)


def options_of(method):
    options = QUICK_METHODS.get(method, {})
    if "stabilizer" in methods[method].options:
        options = options | {"stabilizer": 1e-9}  # one that is large bounds it
    return options


def explained(method, dtype, kind, *args):
    return rapbench.attribute(network_of(kind, dtype, *args), halves().to(dtype), 1, method, **options_of(method))


def apart(found, exact):
    """How far heatmaps lie apart, (N,), in sums of magnitudes."""
    return (found - exact).abs().flatten(1).sum(1) / exact.abs().flatten(1).sum(1)


@contextlib.contextmanager
def in_float32_alone(monkeypatch):
    """Whatever rounding does; yields what it is said to do, (N,) for each heatmap."""
    seen = []

    def once(compute, model, inputs, balance):
        relevance, share = compute(model, inputs, balance)
        seen.append(share)
        return relevance

    with monkeypatch.context() as patched:
        for module in (engine, lrp):
            patched.setattr(module, "resolved", once)
        yield seen


@pytest.mark.parametrize("method", PROPAGATED)
def test_refused_where_float64_does_not_resolve_it(method):
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(rapbench.RapbenchError, match=r"image 0 of the batch: relevance cancels, .* in float64"):
            explained(method, dtype, Almost, 3, 1e-6)


NETWORKS = {"as it is": (Almost, 1), "grown": (Almost, 4), "at one unit": (Unit,)}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("method", PROPAGATED)
def test_float32_gives_what_float64_does(method, network):
    found, exact = explained(method, torch.float32, *network), explained(method, torch.float64, *network)
    assert found.dtype == torch.float32
    assert (apart(found, exact) < LOST).all()


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("method", PROPAGATED)
def test_what_rounding_is_said_to_change_is_more_than_it_does(method, network, monkeypatch):
    exact = explained(method, torch.float64, *network)
    with in_float32_alone(monkeypatch) as seen:
        found = explained(method, torch.float32, *network)
    (share,) = seen
    assert (share > apart(found, exact)).all()


def test_the_share_of_a_sum_by_hand():
    # images of two units: 3 - 2 = 1 with relevance 1, and 1 + 1 = 2 with relevance -3; then 8 - 6 = 2 and nothing
    a, total = torch.tensor([[3.0, 1.0], [8.0, 1.0]]), torch.tensor([[1.0, 2.0], [2.0, torch.inf]])
    relevance = torch.tensor([[1.0, -3.0], [5.0, 0.0]])
    eps = torch.finfo(torch.float32).eps
    assert rounding_error(a, total, relevance, 2).tolist() == pytest.approx([(9 + 3 / 4) / 4 * eps, 16 * eps])
    assert rounding_error(a, total, relevance, 1).tolist() == pytest.approx([(9 + 3 / 4 + 16 * 5) / 9 * eps])
    assert rounding_error(a, total, torch.zeros(2, 2), 2).tolist() == [0, 0]


def test_no_relevance_is_not_lost():
    nothing = torch.zeros(2, 3)
    assert lost(nothing, torch.zeros(2, 5), torch.zeros(2)).tolist() == [0, 0]
    assert lost(torch.full((2, 3), torch.nan), torch.ones(2, 5), torch.zeros(2)).isnan().all()


def mixed():
    """Images that cancel, but for the second."""
    x = halves().repeat(2, 1, 1, 1)[:3]
    x[1, :, :, 4:] = 0.1 * torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(1))
    return x


@pytest.mark.parametrize("method", PROPAGATED)
def test_an_image_that_cancels_leaves_the_others_as_they_are(method, monkeypatch):
    network, x, options = network_of(Almost, torch.float32, 4, 0.02), mixed(), options_of(method)
    together = rapbench.attribute(network, x, 1, method, **options)
    with in_float32_alone(monkeypatch) as seen:
        alone = rapbench.attribute(network, x, 1, method, **options)
    coarse = seen[0] > LOST
    assert coarse.tolist() == [True, False, True]
    assert (together == alone).flatten(1).all(1).tolist() == [False, True, False]


def test_a_few_images_at_a_time_are_told_apart(monkeypatch):
    network, x = network_of(Almost, torch.float32, 4, 0.02), mixed()
    shares = []
    for cached in (2**40, 1):
        monkeypatch.setattr(images, "CACHED", cached)
        with in_float32_alone(monkeypatch) as seen:
            rapbench.attribute(network, x, 1, "rap_aaai")
        shares += seen
    assert shares[0].tolist() == pytest.approx(shares[1].tolist(), rel=0.2)


def test_the_balance_is_that_of_the_relevance():
    network, balance = network_of(Almost, torch.float32, 4), []
    rapbench.attribute(network, halves(), 1, "lrp_epsilon", balance=balance)
    assert all(entry.relevance_in.dtype == torch.float64 for entry in balance)
    assert len({(entry.place, entry.flow) for entry in balance}) == len(balance)


def test_weights_that_change_change_the_copy():
    network = network_of(Almost, torch.float32, 4)
    before = rapbench.attribute(network, halves(), 1, "rap_aaai")
    weights = copy.deepcopy(network.state_dict())
    with torch.no_grad():
        network.conv.weight.add_(0.5)
    after = rapbench.attribute(network, halves(), 1, "rap_aaai")
    exact = rapbench.attribute(copy.deepcopy(network).double(), halves().double(), 1, "rap_aaai")
    assert (apart(after, exact) < 1e-6).all()
    assert (apart(after, before) > 0.01).all()
    network.load_state_dict(weights)
    assert torch.equal(rapbench.attribute(network, halves(), 1, "rap_aaai"), before)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


REPARAMETRISED = {
    "weight_norm": nn.utils.weight_norm,
    "spectral_norm": nn.utils.spectral_norm,
    "prune": lambda module: nn.utils.prune.l1_unstructured(module, "weight", 0.3),
    "parametrizations": nn.utils.parametrizations.weight_norm,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("change", REPARAMETRISED.values(), ids=REPARAMETRISED)
def test_weights_that_are_computed_are_copied(change):
    network, plain = network_of(Almost, torch.float32, 4), network_of(Almost, torch.float32, 4)
    change(network.conv)
    network(halves())  # computes them, with their graph
    with torch.no_grad():
        plain.conv.weight.copy_(network.conv.weight)
    found, expected = (rapbench.attribute(one, halves(), 1, "rap_aaai") for one in (network, plain))
    assert (apart(found, expected) < 1e-3).all()


def test_refused_where_there_is_no_copy_in_float64():
    network = network_of(Almost, torch.float32, 4)
    network.lock = threading.Lock()  # which cannot be copied
    with pytest.raises(rapbench.RapbenchError, match=r"image 0 of the batch: relevance cancels, .* in float32"):
        rapbench.attribute(network, halves(), 1, "rap_aaai")
