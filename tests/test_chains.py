"""Whole networks, from the logit to the pixels, against dense formulas: endings, norms, and both signs everywhere."""

import pytest
import torch
from torch import nn

import rapbench
from tests import dense
from tests.conftest import calibrated

# name -> (shape of an image, the network)
CHAINS = {
    "fully connected": ((6,), lambda: [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4)]),
    "one layer": ((6,), lambda: [nn.Linear(6, 4)]),
    "a norm behind each layer": ((3, 5, 5), lambda: [
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6), nn.BatchNorm1d(6),
        nn.ReLU(), nn.Linear(6, 4)]),
    "a norm before the layers": ((3, 5, 5), lambda: [
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 2), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 4)]),
    "two norms behind a layer": ((3, 4, 4), lambda: [
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)]),
    "both signs": ((3, 6, 6), lambda: [
        nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AvgPool2d(2), nn.Conv2d(4, 4, 2), nn.Tanh(), nn.Flatten(), nn.Linear(4, 4)]),
    "both signs before overlapping averages": ((2, 7), lambda: [
        nn.Conv1d(2, 4, 2), nn.GELU(), nn.AvgPool1d(3, 1, 1), nn.Flatten(), nn.Linear(24, 4)]),
    "squeezenet's ending": ((3, 5, 5), lambda: [
        nn.Conv2d(3, 6, 2), nn.ReLU(), nn.Dropout(), nn.Conv2d(6, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten()]),
    "dla's ending": ((3, 5, 5), lambda: [
        nn.Conv2d(3, 6, 2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1), nn.Flatten()]),
    "an ending of both signs": ((3, 5, 5), lambda: [
        nn.Conv2d(3, 6, 2), nn.SiLU(), nn.Conv2d(6, 4, 2, groups=2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(1),
        nn.Flatten()]),
    "a norm at the end": ((6,), lambda: [nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4)]),
    "transposed convolutions": ((3, 3, 3), lambda: [
        nn.ConvTranspose2d(3, 4, 2, stride=2, output_padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.ConvTranspose2d(4, 6, 3, padding=1, groups=2), nn.BatchNorm2d(6), nn.SiLU(),
        nn.ConvTranspose2d(6, 4, 2, dilation=2, groups=2, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        nn.Linear(16, 4)]),
    "transposed, one dimension": ((4, 4), lambda: [
        nn.ConvTranspose1d(4, 6, 3, stride=2), nn.BatchNorm1d(6), nn.ReLU(), nn.ConvTranspose1d(6, 4, 2), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten()]),
    "transposed, three dimensions": ((2, 2, 2, 2), lambda: [
        nn.ConvTranspose3d(2, 4, 2), nn.BatchNorm3d(4), nn.ReLU(), nn.ConvTranspose3d(4, 4, 2, groups=4), nn.ReLU(),
        nn.Flatten(), nn.Linear(256, 4)]),
    "resizing": ((3, 3, 3), lambda: [
        nn.Upsample(scale_factor=2), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Upsample(size=(5, 6), mode="bilinear"),
        nn.Conv2d(4, 4, 2), nn.SiLU(), nn.Upsample(scale_factor=0.5, mode="bilinear", align_corners=True), nn.Flatten(),
        nn.Linear(16, 4)]),
    "shuffled pixels": ((4, 3, 3), lambda: [
        nn.Conv2d(4, 8, 2), nn.ReLU(), nn.PixelShuffle(2), nn.Conv2d(2, 4, 2), nn.ReLU(), nn.Flatten(),
        nn.Linear(36, 4)]),
}  # fmt: skip
EPSILON = ("epsilon", 0.1)
# method -> its options, and those of the dense walk
METHODS = {
    "rap, normal": ("rap", {"flow": "normal"}, {"kappa": 1}),
    "rap, inversion": ("rap", {"flow": "inversion"}, {"kappa": -1}),
    "rap_aaai": ("rap_aaai", {}, {}),
    "lrp_a1b0": ("lrp_a1b0", {}, {"convolution": 1, "dense": 1}),
    "lrp_a1b0, bias ignored": (
        "lrp_a1b0", {"bias": "ignored"}, {"convolution": 1, "dense": 1, "ignore_bias": True}),
    "lrp_a2b1": ("lrp_a2b1", {}, {"convolution": 2, "dense": 2}),
    "lrp_a2b1, bias ignored": (
        "lrp_a2b1", {"bias": "ignored"}, {"convolution": 2, "dense": 2, "ignore_bias": True}),
    "lrp_alpha_beta": ("lrp_alpha_beta", {"alpha": 1.5}, {"convolution": 1.5, "dense": 1.5}),
    "lrp_epsilon": ("lrp_epsilon", {}, {"convolution": EPSILON, "dense": EPSILON}),
    "lrp_epsilon, bias ignored": (
        "lrp_epsilon", {"bias": "ignored"}, {"convolution": EPSILON, "dense": EPSILON, "ignore_bias": True}),
    "lrp_preset_a": ("lrp_preset_a", {}, {"convolution": 1, "dense": EPSILON}),
    "lrp_preset_b": ("lrp_preset_b", {}, {"convolution": 2, "dense": EPSILON}),
}  # fmt: skip


def chain(name: str) -> tuple[nn.Sequential, torch.Tensor]:
    """The network, with random weights, and two images."""
    shape, make = CHAINS[name]
    torch.manual_seed(0)
    network = calibrated(nn.Sequential(*make()), 0, shape=shape)
    for module in network:
        if isinstance(module, nn.modules.conv._ConvTransposeNd):
            nn.init.kaiming_normal_(module.weight)
    return network, torch.randn(2, *shape).double()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", CHAINS)
def test_a_chain_equals_the_dense_formulas(name, method):
    network, x = chain(name)
    registered, options, walk = METHODS[method]
    targets = torch.tensor([1, 3])
    got = rapbench.attribute(network, x, targets, registered, **options)
    for sample in range(2):
        kind = registered if registered.startswith("rap") else "lrp"
        want = dense.walk(list(network), x[sample], int(targets[sample]), kind, **walk)
        scale = want.abs().max()
        assert scale > 0
        assert (got[sample] - want).abs().max() < 1e-9 * scale


@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a1b0", "lrp_a2b1", "lrp_epsilon", "lrp_preset_b"])
@pytest.mark.parametrize("name", CHAINS)
def test_every_step_of_a_chain_balances(name, method):
    network, x = chain(name)
    balances: list[rapbench.relevance.Balance] = []
    relevance = rapbench.attribute(network, x, 1, method, balance=balances)
    for entry in balances:
        error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
        assert (error <= 1e-9 * (1 + entry.total)).all(), f"{entry.place}, {entry.flow}"
    dropped = sum(entry.dropped for entry in balances)
    whole = torch.zeros(2).double() if method == "rap" else network(x)[:, 1].detach()
    assert ((relevance.flatten(1).sum(1) + dropped - whole).abs() < 1e-9 * (1 + relevance.abs().sum())).all()
