"""RAP and LRP on the networks that people use: every layer conserves relevance, and they agree with what is known."""

import pytest
import timm
import torch
from torch import nn

import rapbench
from rapbench.relevance import Balance
from tests.networks import NETWORKS


@pytest.fixture(
    scope="module",  # built once for all tests, which pytest runs together
    params=[pytest.param(name, marks=[pytest.mark.slow] if case.heavy else []) for name, case in NETWORKS.items()],
)
def network(request: pytest.FixtureRequest) -> nn.Module:
    case = NETWORKS[request.param]
    return case.network(case.small)


@pytest.fixture
def x(request: pytest.FixtureRequest, network: nn.Module) -> torch.Tensor:
    return _images(NETWORKS[request.node.callspec.params["network"]].small)


def _images(shape: tuple[int, ...], count: int = 2) -> torch.Tensor:
    return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _assert_balanced(network: nn.Module, x: torch.Tensor, method: str) -> torch.Tensor:
    balances: list[Balance] = []
    relevance = rapbench.attribute(network, x, 3, method, balance=balances)
    assert relevance.isfinite().all()
    assert (relevance.abs().flatten(1).sum(1) > 0).all()
    for entry in balances:
        error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
        assert (error <= 1e-9 * (1 + entry.total)).all(), f"{entry.place}, {entry.flow}: {error}"
    dropped = sum(entry.dropped for entry in balances)
    whole = torch.zeros(len(x)).double() if method == "rap" else network(x)[:, 3].detach()
    scale = sum(entry.total for entry in balances) / len(balances) + relevance.abs().flatten(1).sum(1)
    assert ((relevance.flatten(1).sum(1) + dropped - whole).abs() <= 1e-9 * scale).all()
    return relevance


def test_every_layer_balances_and_a_batch_is_its_images(network: nn.Module, x: torch.Tensor):
    for method in ("rap", "rap_aaai"):
        together = _assert_balanced(network, x, method)
        alone = rapbench.attribute(network, x[1:], 3, method)
        assert (alone[0] - together[1]).abs().max() < 1e-10 * together[1].abs().max(), method


def test_lrp_without_biases_conserves(network: nn.Module, x: torch.Tensor, request: pytest.FixtureRequest):
    """But for depthwise convolutions, where units with no input of the right sign are common and drop theirs."""
    if any(name in request.node.callspec.id for name in ("mobilenet", "efficientnet", "shufflenet")):
        pytest.skip("depthwise convolutions")
    logits = network(x)[:, 3]
    for method in ("lrp_a1b0", "lrp_a2b1"):
        relevance = rapbench.attribute(network, x, 3, method, bias="ignored")
        scale = relevance.abs().flatten(1).sum(1)
        assert ((relevance.flatten(1).sum(1) - logits).abs() < 1e-4 * scale).all(), method


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_layer_balances_at_full_size(name: str):
    case = NETWORKS[name]
    _assert_balanced(case.network(case.full), _images(case.full, 1), "rap")


def test_what_cannot_be_handled_is_refused_by_name_and_place():
    network = timm.create_model("focalnet_tiny_srf", num_classes=10).eval()  # multiplies two signals
    with pytest.raises(rapbench.RapbenchError, match=r"no relevance rule for mul at layers\.0\.blocks\.0\.modulation "):
        rapbench.attribute(network, torch.randn(1, 3, 64, 64), 0)
