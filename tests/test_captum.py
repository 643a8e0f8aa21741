"""The methods that go through Captum, against autograd, zennit and small sums by hand; and the control `edge`."""

import copy
import functools
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.rules import Epsilon, Norm, Pass
from zennit.types import Activation, AvgPool

import rapbench
from rapbench.relevance.canonical import canonical, own_modules
from rapbench.relevance.operations import Mean
from tests.conftest import NETWORKS, calibrated

RECTIFIED = ["guided_backprop", "deconvolution"]


class Ruled(torch.autograd.Function):
    """ReLU with a backward rule, as the papers state it."""

    @staticmethod
    def forward(ctx, x, rule):
        ctx.save_for_backward(x)
        ctx.rule = rule
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient.clamp(min=0) * ((x > 0) if ctx.rule == "guided_backprop" else 1), None


class Tangle(nn.Module):
    """What hooks on modules get wrong: functions, a shared module, and a tensor with several readers."""

    def __init__(self, relu=None):
        super().__init__()
        self.relu = relu or nn.ReLU(inplace=True)
        self.function = relu or F.relu
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 4, 3)
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x)
        x = torch.cat([self.function(x), 0.5 * x + self.pool(x)], 1)
        x = self.relu(self.relu(self.second(x)) - 0.1)
        return self.last(x.mean((2, 3)))


@pytest.fixture
def tangle():
    torch.manual_seed(0)
    return Tangle().double()


@pytest.fixture
def small():
    return torch.randn(3, 3, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """A residual network in small: batch norms, overlapping pools, a sum, and a shared ReLU that works in place."""

    def __init__(self):
        super().__init__()
        self.before, self.inner = (
            nn.Sequential(nn.Conv2d(before, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)) for before in (3, 6)
        )
        self.pool, self.relu = nn.MaxPool2d(3, 2, 1), nn.ReLU(inplace=True)
        self.last = nn.Linear(6, 10)

    def forward(self, x):
        x = self.pool(self.relu(self.before(x)))
        return self.last(self.relu(self.inner(x) + x).mean((2, 3)))


@functools.cache
def built(name):
    torch.manual_seed(0)
    return calibrated(Residual() if name == "residual" else NETWORKS[name](), 32)


def net_of(activation, **more):
    """(N, 1, 2) -> (N, 2) with an activation in the middle."""
    layers = OrderedDict(flat=nn.Flatten(), first=nn.Linear(2, 2), act=activation, **more, last=nn.Linear(2, 2))
    return nn.Sequential(layers).double()


def gradient(network, x, targets):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(network(x).gather(1, targets[:, None]).sum(), x)[0]


@pytest.mark.parametrize("method", RECTIFIED)
@pytest.mark.parametrize("name", ["vgg", "residual"])
def test_rectified_gradients_are_those_of_a_relu_with_that_rule(method, name, images, targets):
    network = built(name)
    reference = copy.deepcopy(network)
    for owner in list(reference.modules()):
        for child, module in owner.named_children():
            if isinstance(module, nn.ReLU):
                module = nn.Module()
                module.forward = lambda x: Ruled.apply(x, method)
                setattr(owner, child, module)
    relevance = rapbench.attribute(network, images, targets, method)
    torch.testing.assert_close(relevance, gradient(reference, images, targets))
    assert not torch.allclose(relevance, gradient(network, images, targets))


@pytest.mark.parametrize("method", RECTIFIED)
def test_rectified_gradients_see_functions_shared_modules_and_tensors_with_several_readers(method, tangle, small):
    reference = Tangle(relu=lambda x: Ruled.apply(x, method)).double()
    reference.load_state_dict(tangle.state_dict())
    targets = torch.tensor([0, 1, 2])
    expected = gradient(reference, small, targets)
    torch.testing.assert_close(rapbench.attribute(tangle, small, targets, method), expected)


@pytest.mark.parametrize(("method", "expected"), [("guided_backprop", [3.0, 0, 0, 0]), ("deconvolution", [3, 0, 5, 0])])
def test_rectified_gradients_by_hand(method, expected):
    last = nn.Linear(4, 1, bias=False)
    last.weight.data = torch.tensor([[3.0, -4.0, 5.0, -6.0]])
    x = torch.tensor([[2.0, 2.0, -2.0, -2.0]])
    for relu in (nn.ReLU(), nn.ReLU6()):
        assert rapbench.attribute(nn.Sequential(relu, last), x, 0, method).tolist() == [expected]


@pytest.mark.parametrize("method", RECTIFIED)
def test_relu6_passes_nothing_beyond_6(method):
    net = nn.Sequential(nn.ReLU6(), nn.Linear(1, 1))
    net[1].weight.data.fill_(1)
    assert rapbench.attribute(net, torch.tensor([[5.0], [7.0]]), 0, method).tolist() == [[1], [0]]


@pytest.mark.parametrize("method", RECTIFIED)
def test_rectified_gradients_need_a_relu(method):
    with pytest.raises(rapbench.RapbenchError, match=f"{method} is the gradient.*Sequential has none; use sensiti"):
        rapbench.attribute(nn.Sequential(nn.Linear(2, 2)), torch.rand(1, 2), 0, method)


def rise(network, x, targets, baseline):
    with torch.no_grad():
        return (network(x) - network(torch.full_like(x, baseline))).gather(1, targets[:, None])[:, 0]


@pytest.mark.parametrize(("name", "baseline"), [
    ("vgg", 0.0), ("vgg_bn", 0.5), ("residual", -1.0), ("resnet_basic", 0.5),
])  # fmt: skip
def test_deeplift_is_complete(name, images, targets, baseline):
    network = built(name)
    relevance = rapbench.attribute(network, images, targets, "deeplift", baseline=baseline)
    torch.testing.assert_close(relevance.flatten(1).sum(1), rise(network, images, targets, baseline), rtol=1e-6, atol=0)


def test_deeplift_is_complete_where_a_tensor_has_several_readers(tangle, small):
    targets = torch.tensor([0, 1, 2])
    relevance = rapbench.attribute(tangle, small, targets, "deeplift")
    torch.testing.assert_close(relevance.flatten(1).sum(1), rise(tangle, small, targets, 0.0), rtol=1e-6, atol=0)


def test_deeplift_rescales_by_hand():
    """relu(a + b - 1) at (2, 1) against (0, 0): z from -1 to 2, its ReLU from 0 to 2, so the multiplier is 2/3."""
    for activation, x, expected in (
        (nn.ReLU(), [[2.0, 1.0]], [[4 / 3, 2 / 3]]),
        (nn.ReLU6(), [[6.0, 3.0]], [[4.0, 2.0]]),  # z from -1 to 8, its ReLU6 from 0 to 6: 6/9
    ):
        net = nn.Sequential(nn.Linear(2, 1), activation, nn.Linear(1, 1, bias=False))
        net[0].weight.data.fill_(1)
        net[0].bias.data.fill_(-1)
        net[2].weight.data.fill_(1)
        relevance = rapbench.attribute(net, torch.tensor(x), 0, "deeplift")
        torch.testing.assert_close(relevance, torch.tensor(expected))


def test_deeplift_of_an_image_does_not_depend_on_another_where_a_pool_reads_no_change():
    """The first two channels cancel in the second image, so its pool reads what it reads at the baseline."""
    net = nn.Sequential(nn.Conv2d(2, 1, 1, bias=False), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1, 1, bias=False))
    net = net.double()
    net[0].weight.data = torch.tensor([1.0, -1.0], dtype=torch.float64).view(1, 2, 1, 1)
    x = torch.ones(2, 2, 2, 2, dtype=torch.float64)
    x[0, 0, 1, 1] = 3
    together = rapbench.attribute(net, x, 0, "deeplift")
    assert torch.equal(together[1:], rapbench.attribute(net, x[1:], 0, "deeplift"))


def test_smoothgrad_is_the_gradient_under_gaussian_noise_in_proportion_to_the_image():
    class Square(nn.Module):
        def forward(self, x):
            return x.pow(2).flatten(1).sum(1, keepdim=True) / 2  # whose gradient is x

    x = torch.rand(2, 3, 41, 37, dtype=torch.float64) + 10
    x[1] = 10 + 3 * (x[1] - 10)
    for samples, noise in ((1, 0.1), (16, 0.2)):
        drawn = rapbench.attribute(Square(), x, 0, "smoothgrad", samples=samples, noise=noise) - x
        deviation = noise * (x.amax((1, 2, 3)) - x.amin((1, 2, 3))) / samples**0.5
        assert (drawn.std((1, 2, 3)) / deviation - 1).abs().max() < 0.05
        assert (drawn.mean((1, 2, 3)) / deviation).abs().max() < 0.06
        assert ((drawn.abs() < deviation[:, None, None, None]).double().mean() - 0.683).abs() < 0.02
    assert not torch.allclose(drawn[0], drawn[1])


def test_smoothgrad_without_noise_is_the_sensitivity(tangle, small):
    smooth = rapbench.attribute(tangle, small, 1, "smoothgrad", samples=3, noise=0.0)
    torch.testing.assert_close(smooth, rapbench.attribute(tangle, small, 1, "sensitivity"))


def test_smoothgrad_draws_depend_on_the_image_alone(tangle, small):
    state = torch.get_rng_state()
    given = rapbench.attribute(tangle, small, 1, "smoothgrad", samples=10)
    assert torch.equal(torch.get_rng_state(), state)
    for batch in (1, 3, 64):
        torch.manual_seed(batch)
        again = rapbench.attribute(tangle, small, 1, "smoothgrad", samples=10, batch=batch)
        torch.testing.assert_close(again, given)
    assert not torch.allclose(rapbench.attribute(tangle, small, 1, "smoothgrad", samples=10, seed=1), given)


@pytest.mark.parametrize("option", [{"samples": 0}, {"batch": 0}, {"noise": -0.1}])
def test_smoothgrad_names_a_bad_option(option, tangle, small):
    with pytest.raises(rapbench.RapbenchError, match=rf"option {next(iter(option))}=.*: Input should be greater than"):
        rapbench.attribute(tangle, small, 1, "smoothgrad", **option)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", ["vgg", "vgg_bn"])
def test_captum_lrp_is_the_epsilon_rule(name, bias, images, targets):
    network = copy.deepcopy(built(name))
    for module in network.modules():
        if not bias and getattr(module, "bias", None) is not None:
            module.bias.data.zero_()
        if not bias and isinstance(module, nn.BatchNorm2d):
            module.running_mean.zero_()
    relevance = rapbench.attribute(network, images, targets, "captum_lrp")
    graph = own_modules(canonical(copy.deepcopy(network)).graph_module)
    rules = LayerMapComposite([
        (Activation, Pass()), ((AvgPool, Mean), Norm()),
        ((nn.Conv2d, nn.Linear, nn.BatchNorm2d), Epsilon(1e-9)),
    ])  # fmt: skip
    x = images.clone().requires_grad_()
    with rules.context(graph):
        logits = graph(x).gather(1, targets[:, None])[:, 0]
        (expected,) = torch.autograd.grad(logits, x, logits.detach())
    assert (relevance - expected).abs().max() < 1e-3 * expected.abs().max()
    if not bias:
        torch.testing.assert_close(relevance.flatten(1).sum(1), logits.detach(), rtol=1e-6, atol=0)


def test_captum_lrp_conserves_through_relu6_cat_and_several_readers():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = (nn.Conv2d(3, 4, 1, bias=False) for _ in range(2))
            self.last = nn.Linear(15, 3, bias=False)

        def forward(self, x):
            x = torch.cat([F.relu6(self.a(x)), F.max_pool2d(x, 3, 1, 1), self.b(x), F.relu(x), x[:, :1]], 1)
            return self.last(F.dropout(x.mean((2, 3)), training=False))

    torch.manual_seed(0)
    net = Branches().double()
    x = 40 * torch.randn(2, 3, 6, 6, dtype=torch.float64)  # so that ReLU6 is beyond 6 in places
    relevance = rapbench.attribute(net, x, 1, "captum_lrp")
    torch.testing.assert_close(relevance.flatten(1).sum(1), net(x)[:, 1].detach(), rtol=1e-6, atol=0)


def test_captum_lrp_writes_nothing_to_the_parameters(images):
    network = built("vgg_bn")
    versions = [tensor._version for tensor in network.state_dict(keep_vars=True).values()]
    rapbench.attribute(network, images, 1, "captum_lrp")
    assert [tensor._version for tensor in network.state_dict(keep_vars=True).values()] == versions


ACTIVATIONS = [
    nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(), nn.ELU(), nn.Sigmoid(), nn.Tanh(), nn.Softplus(), nn.SiLU(), nn.GELU(),
    nn.Hardswish(), nn.PReLU(), nn.Softmax(1), nn.LayerNorm(2),
]  # fmt: skip
TAKES = {
    "guided_backprop": {"ReLU", "ReLU6", "LayerNorm"},
    "deconvolution": {"ReLU", "ReLU6", "LayerNorm"},
    "deeplift": {type(activation).__name__ for activation in ACTIVATIONS[:11]},
    "captum_lrp": {type(activation).__name__ for activation in ACTIVATIONS[:11]},
}


@pytest.mark.parametrize("method", TAKES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=lambda activation: type(activation).__name__)
def test_a_method_takes_its_activations_and_names_others(method, activation):
    net, x, name = (
        net_of(activation, relu=nn.ReLU()),
        torch.rand(3, 1, 2, dtype=torch.float64),
        type(activation).__name__,
    )
    if name in TAKES[method]:
        assert rapbench.attribute(net, x, 0, method).isfinite().all()
    else:
        # a norm by the batch's statistics is named before any method looks at it
        named = rf"^{method} supports .*; it has no rule for {name} at act\b|a batch norm needs running statistics"
        with pytest.raises(rapbench.RapbenchError, match=named):
            rapbench.attribute(net, x, 0, method)


@pytest.mark.parametrize(("function", "name"), [
    (lambda x: x * torch.sigmoid(x), "(Sigmoid|Gate)"),
    (lambda x: x * F.relu6(x), "Gate"),
    (lambda x: x * F.relu(x), "mul"),
    (lambda x: x * x, "mul"),
    (lambda x: 1 / (x + 2), "truediv"),
    (lambda x: x.exp(), "exp"),
    (lambda x: x.clamp(min=0), "clamp"),
    (lambda x: 2 * x / 3 + 1 - x[:, :1].expand(-1, 2), None),
])  # fmt: skip
@pytest.mark.parametrize("method", ["guided_backprop", "deeplift"])
def test_functions_must_be_affine(method, function, name):
    class Inner(nn.Module):
        def forward(self, x):
            return function(x)

    net, x = net_of(Inner(), relu=nn.ReLU()), torch.rand(3, 1, 2, dtype=torch.float64)
    if name:
        with pytest.raises(rapbench.RapbenchError, match=rf"has no rule for {name} at act"):
            rapbench.attribute(net, x, 0, method)
    else:
        assert rapbench.attribute(net, x, 0, method).isfinite().all()


class NotCalled(nn.Module):
    def forward(self, x):
        raise AssertionError


def test_edges_of_a_step_by_hand_and_without_the_model():
    x = torch.zeros(2, 3, 5, 6)
    x[0, :, :, 3:] = torch.tensor([1.0, 2.0, 6.0])[:, None, None]  # a step of 3 in the mean
    relevance = rapbench.attribute(NotCalled(), x, 0, "edge")
    row = torch.tensor([0.0, 0, 12, 12, 0, 0])  # (1 + 2 + 1) * 3 on both sides
    torch.testing.assert_close(relevance[0], row.expand(3, 5, 6))
    assert (relevance[1] == 0).all()


@pytest.mark.parametrize("shape", [(2, 1, 9), (2, 2, 5, 6, 7)])
def test_edges_in_any_number_of_dimensions(shape):
    x = torch.rand(shape)
    relevance = rapbench.attribute(NotCalled(), x, 0, "edge")
    assert relevance.shape == x.shape
    assert relevance.dtype == x.dtype
    assert torch.equal(relevance[:, :1].expand(shape), relevance)


def test_edges_need_an_image():
    with pytest.raises(rapbench.RapbenchError, match=r"edge needs images, \(N, C, ...\), got inputs of shape \(2, 3\)"):
        rapbench.attribute(NotCalled(), torch.rand(2, 3), 0, "edge")
