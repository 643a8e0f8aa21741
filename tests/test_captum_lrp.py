"""LRP through Captum on residual networks: by hand, against our own engine, and against what it must sum to."""

import copy

import pytest
import torch
import torch.nn.functional as F
from captum.attr import LRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import IdentityRule
from torch import nn

import rapbench
from rapbench.methods.adapters.captum_rules import Epsilon, Ledger
from tests.conftest import NETWORKS, calibrated
from tests.networks import NETWORKS as KNOWN


def built(name):
    torch.manual_seed(0)
    return calibrated(NETWORKS[name](), 32)


class TwoBranches(nn.Module):
    """c(a(x) + b(x) + x), for two features."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)
        self.a.weight.data = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
        self.b.weight.data = torch.tensor([[1.0, -1.0], [3.0, 1.0]])
        self.c.weight.data = torch.tensor([[2.0, 1.0]])

    def forward(self, x):
        return self.c(self.a(x) + self.b(x) + x)


def test_captum_lrp_shares_a_residual_sum_by_hand():
    """At (1, 3): a = (7, 3), b = (-2, 6), their sum with x (6, 12), the logit 24, of which each sum has 12."""
    x = torch.tensor([[1.0, 3.0]], dtype=torch.float64)
    relevance = rapbench.attribute(TwoBranches().double(), x, 0, "captum_lrp")
    # a's units hand down 14 and 3, b's -4 and 6, and x itself has (2, 3)
    expected = [2 + 0 + 2 + 3 + 2, 12 + 3 - 6 + 3 + 3]
    torch.testing.assert_close(relevance, torch.tensor([expected], dtype=torch.float64))


def test_captum_lrp_has_captums_rules_by_hand():
    """w = (1, -1), b = 0.5, x = (1, 2): the logit is -0.5, and that many times w'x / (w'x + b) goes to each input."""
    layer = nn.Linear(2, 1).double()
    layer.weight.data, layer.bias.data = torch.tensor([[1.0, -1.0]]).double(), torch.tensor([0.5]).double()
    x = torch.tensor([[1.0, 2.0]]).double()
    for options, expected in (
        ({}, [1.0, -2.0]),  # z = 1 - 2 + 0.5
        ({"rule": "gamma"}, [1.25 / -0.25 * -0.5, -2 / -0.25 * -0.5]),  # w' = (1.25, -1)
        ({"rule": "gamma", "gamma": 1.0}, [2 / 0.5 * -0.5, -2 / 0.5 * -0.5]),
        ({"rule": "alpha1_beta0"}, [1 / 1.5 * -0.5, 0.0]),  # w' = (1, 0)
    ):
        relevance = rapbench.attribute(layer, x, 0, "captum_lrp", **options)
        torch.testing.assert_close(relevance, torch.tensor([expected], dtype=torch.float64))


@pytest.mark.parametrize("name", ["resnet_basic", "resnet_bottleneck"])
def test_captum_lrp_of_a_residual_network_is_our_epsilon_rule(name, images, targets):
    """A batch norm with the epsilon rule, and a folded one, are the same; additions have 1e-6 in ours, 1e-9 there."""
    relevance = rapbench.attribute(built(name), images, targets, "captum_lrp")
    expected = rapbench.attribute(built(name), images, targets, "lrp_epsilon", stabilizer=1e-9)
    assert (relevance - expected).abs().max() < 1e-3 * expected.abs().max()


class Plain(nn.Module):
    """A residual network without norms and biases, whose layers read nothing negative."""

    def __init__(self):
        super().__init__()
        self.first, self.inner = (nn.Conv2d(c, 6, 3, padding=1, bias=False) for c in (3, 6))
        self.last = nn.Linear(6, 10, bias=False)

    def forward(self, x):
        x = F.relu(self.first(x))
        return self.last(F.relu(self.inner(x) + x).mean((2, 3)))


def test_captum_lrp_alpha1_beta0_is_ours_where_nothing_negative_is_read(images, targets):
    torch.manual_seed(0)
    network, x = Plain().double(), images.abs()
    relevance = rapbench.attribute(network, x, targets, "captum_lrp", rule="alpha1_beta0")
    expected = rapbench.attribute(network, x, targets, "lrp_a1b0")
    assert (relevance - expected).abs().max() < 1e-3 * expected.abs().max()  # ours adds 1e-6 to denominators


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha1_beta0"])
def test_captum_lrp_conserves_what_its_rules_promise(rule, images, targets):
    torch.manual_seed(0)
    network, x = Plain().double(), images.abs()
    relevance = rapbench.attribute(network, x, targets, "captum_lrp", rule=rule)
    logits = network(x).gather(1, targets[:, None])[:, 0].detach()
    torch.testing.assert_close(relevance.flatten(1).sum(1), logits, rtol=1e-5, atol=1e-9)


def test_captum_lrp_passes_relevance_through_norms_where_it_is_told_to(images, targets):
    network = copy.deepcopy(built("resnet_basic"))
    network.fc.bias.data.zero_()
    options = {"rule": "alpha1_beta0", "norm": "identity"}
    relevance = rapbench.attribute(network, images.abs(), targets, "captum_lrp", **options)
    logits = network(images.abs()).gather(1, targets[:, None])[:, 0].detach()
    # but for units that read only zeros
    torch.testing.assert_close(relevance.flatten(1).sum(1), logits, rtol=1e-3, atol=1e-9)


class Written(nn.Module):
    """A residual network with Captum's addition, as users write it: an activation and the sum read one tensor.

    apart: each reads a view of its own, as in our graphs.
    """

    def __init__(self, apart):
        super().__init__()
        self.apart = apart
        self.first, self.act, self.add, self.last = nn.Linear(2, 3), nn.ReLU(), Addition_Module(), nn.Linear(3, 1)

    def forward(self, x):
        x = self.first(x)
        one, other = (x.view_as(x), x.view_as(x)) if self.apart else (x, x)
        return self.last(self.add(self.act(one).view_as(x), other).view_as(x))[:, 0]


@pytest.mark.parametrize("apart", [True, False])
def test_captum_counts_a_tensor_with_several_readers_wrongly_and_the_ledger_sees_it(apart):
    torch.manual_seed(0)
    network, ledger = Written(apart).double(), Ledger()
    for module in network.children():
        module.rule = IdentityRule() if isinstance(module, nn.ReLU) else Epsilon(ledger)
    x = torch.rand(2, 2, dtype=torch.float64, requires_grad=True)
    logits = network(x).detach()
    relevance = LRP(network).attribute(x).detach() / logits[:, None]
    if apart:
        ledger.check(relevance, "captum_lrp")
    else:
        with pytest.raises(rapbench.RapbenchError, match=r"captum_lrp: .* counted twice or lost on the way"):
            ledger.check(relevance, "captum_lrp")


def test_captum_lrp_refuses_what_rounding_spoils():
    """Each layer's products cancel but for a part in 1e5, so that relevance grows by as much from layer to layer."""
    layers = [nn.Linear(2, 2, bias=False) for _ in range(10)]
    for layer in layers:
        layer.weight.data = torch.tensor([[1.0, -1 + 1e-5], [-1.0, 1 + 1e-5]]) * 1e5
    network = nn.Sequential(*layers)
    with pytest.raises(
        rapbench.RapbenchError, match=r"captum_lrp: relevance cancels, and rounding in float32 may change more than 1%"
    ):
        rapbench.attribute(network, torch.ones(1, 2), 0, "captum_lrp")


SPOILT = {("gamma", "epsilon"), ("gamma", "identity"), ("epsilon", "identity")}


@pytest.mark.parametrize("rule", ["epsilon", "gamma", "alpha1_beta0"])
@pytest.mark.parametrize("norm", ["epsilon", "identity"])
def test_captum_lrp_in_float32_is_that_in_float64_or_refused(rule, norm, images, targets):
    """On a deep network with norms, where the gamma rule explodes."""
    network, options = built("resnet_bottleneck"), {"rule": rule, "norm": norm}
    if (rule, norm) in SPOILT:
        with pytest.raises(rapbench.RapbenchError, match=r"rounding in float32 may change more than 1%"):
            rapbench.attribute(network.float(), images.float(), targets, "captum_lrp", **options)
        return
    single = rapbench.attribute(network.float(), images.float(), targets, "captum_lrp", **options)
    double = rapbench.attribute(network.double(), images, targets, "captum_lrp", **options)
    assert (single - double).abs().max() < 0.01 * double.abs().max()


@pytest.mark.parametrize(("function", "says"), [
    (lambda x: 2 * x, "no rule for mul at 1"),
    (lambda x: x * F.relu(x), "no rule for .* at 1"),
    (lambda x: x + torch.ones(x.shape, dtype=x.dtype), "Addition_Module reads a tensor that does not depend on the im"),
])  # fmt: skip
def test_captum_lrp_refuses_arithmetic(function, says):
    class Inner(nn.Module):
        def forward(self, x):
            return function(x)

    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(
            nn.Sequential(nn.Linear(2, 2), Inner(), nn.Linear(2, 2)).double(),
            torch.rand(1, 2).double(),
            0,
            "captum_lrp",
        )


def test_captum_lrp_names_a_gamma_that_is_no_magnitude(images):
    with pytest.raises(rapbench.RapbenchError, match=r"gamma=-0.1 is no magnitude; set gamma >= 0"):
        rapbench.attribute(built("resnet_basic"), images, 0, "captum_lrp", rule="gamma", gamma=-0.1)


def test_an_image_alone_in_the_channels_last_layout_is_explained_as_in_a_batch():
    network = KNOWN["resnet18"].network((3, 64, 64)).float().to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    images = images.contiguous(memory_format=torch.channels_last)
    batch, alone = (rapbench.attribute(network, x, 3, "captum_lrp") for x in (images, images[:1]))
    assert (alone - batch[:1]).abs().sum() < 1e-2 * batch[:1].abs().sum()
