"""The traced graph computes what the model computes, whatever way its operations are written."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rapbench
from rapbench.relevance import Network
from rapbench.relevance.canonical import canonical, own_modules
from rapbench.relevance.lrp import LRP
from rapbench.relevance.rules import RULES
from tests.conftest import calibrated
from tests.networks import NETWORKS


class Written(nn.Module):
    """A small network whose forward is the function that a test gives."""

    def __init__(self, forward, channels: int = 8):
        super().__init__()
        self.first = nn.Conv2d(3, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.Sigmoid())
        self.scale = nn.Parameter(torch.linspace(0.5, 1.5, channels).view(-1, 1, 1))
        self.head = nn.Linear(channels, 5)
        self.way = [forward]  # hidden from the module's own attributes

    def forward(self, x):
        return self.way[0](self, x)


def modules(n, x):
    x = n.relu(n.norm(n.second(n.relu(n.first(x)))))
    return n.head(x.mean((2, 3)))


def functions(n, x):
    x = F.relu(F.conv2d(x, n.first.weight, n.first.bias, padding=1))
    x = F.conv2d(x, n.second.weight, n.second.bias, 1, 1)
    x = F.batch_norm(x, n.norm.running_mean, n.norm.running_var, n.norm.weight, n.norm.bias, eps=n.norm.eps)
    x = F.dropout(torch.relu(x), training=n.training)
    return F.linear(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1), n.head.weight, n.head.bias)


def in_place(n, x):
    x = n.first(x)
    n.relu(x)  # its result unused: x itself has changed
    x = n.second(x)
    x = n.norm(x)
    F.relu(x, inplace=True)
    return n.head(x.mean([2, 3]))


def in_place_twice(n, x):
    x = n.first(x)
    n.relu(x)
    x = n.norm(n.second(x))
    n.relu(x)  # the same module again
    return n.head(x.mean([2, 3]))


def padded(n, x):
    x = n.relu(F.conv2d(F.pad(x, (1, 1, 1, 1)), n.first.weight, n.first.bias))
    return n.head(n.relu(n.norm(n.second(x))).mean((2, 3)))


def branching(n, x):
    x = n.first(x)
    if x.shape[1] > 4 and x.size(-1) >= 2:
        x = n.relu(x)
    return n.head(n.relu(n.norm(n.second(x))).mean((2, 3)))


SAME = {
    "functions": functions,
    "in_place": in_place,
    "in_place_twice": in_place_twice,
    "padded": padded,
    "branching": branching,
}


@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a1b0"])
@pytest.mark.parametrize("way", SAME)
def test_the_way_it_is_written_does_not_matter(way, method, images, targets):
    net = calibrated(Written(modules), 32)
    targets = targets % 5
    want = rapbench.attribute(net, images, targets, method)
    net.way[0] = SAME[way]
    del net.__dict__["way"]  # other code in forward is another make-up: what is kept of the model must not be used
    other = Written(SAME[way]).double().eval()
    other.load_state_dict(net.state_dict())
    got = rapbench.attribute(other, images, targets, method)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def shared_residual(n, x):
    x = n.relu(n.first(x))
    y = n.relu(n.norm(n.second(x)))
    y = n.second(y)
    y += x
    return n.head(F.relu(y).mean((2, 3)))


def unshared_residual(n, x):
    x = n.relu(n.first(x))
    y = n.relu(n.norm(n.second(x)))
    return n.head(F.relu(n.third(y) + x).mean((2, 3)))


@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a2b1", "lrp_epsilon", "guided_backprop", "deeplift"])
def test_a_module_called_twice_is_two(method, images, targets):
    net, other = (calibrated(Written(way), 32) for way in (shared_residual, shared_residual))
    other.way[0], other.third = unshared_residual, copy.deepcopy(other.second)
    got, want = (rapbench.attribute(network, images, targets % 5, method) for network in (net, other))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def late_in_place_add(n, x):
    x = n.relu(n.first(x))
    y = n.norm(n.second(x))
    y.add_(x)
    return n.head(n.relu(y).mean((2, 3)))


def gated(n, x):
    x = n.relu(n.first(x))
    return n.head((n.gate(x) * x + n.second(x * torch.sigmoid(x))).mean((2, 3)))


def gated_by_what_has_no_rule(n, x):
    x = n.relu(n.first(x))
    return n.head((x * torch.sigmoid(x.exp().mean((2, 3), keepdim=True))).mean((2, 3)))


def read_twice(n, x):
    x = n.first(x)
    return n.head((F.relu(x) + F.silu(x)).mean((2, 3)))


def padded_twice(n, x):
    x = F.pad(x, (0, 1, 0, 1))
    return n.head((n.first(x) + n.first(x) / 2).mean((2, 3)))


def scaled(n, x):
    x = F.leaky_relu(n.first(2 * x - 0.5), 0.1)
    return n.head((1 - n.second(x * n.scale + 0.3) / 3).mean((2, 3)))


def split(n, x):
    x = n.relu(n.first(x))
    a, b = x.chunk(2, dim=1)
    x = torch.cat([b, F.silu(a)], 1).view(x.size(0), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
    return n.head(n.second(x[:, :, 1:-1]).permute(0, 2, 3, 1).permute(0, 3, 1, 2).mean((2, 3)))


def pools(n, x):
    x = n.relu(n.first(F.pad(x, (1, 2, 0, 1), mode="reflect")))
    x = F.max_pool2d(x, 3, 2, ceil_mode=True) + F.avg_pool2d(F.pad(x, (1, 0, 1, 0)), 2, ceil_mode=True)[:, :, :16, :17]
    return n.head(F.adaptive_max_pool2d(F.hardswish(n.second(x)), 1).flatten(1))


WAYS = (
    modules,
    functions,
    in_place,
    padded,
    branching,
    shared_residual,
    late_in_place_add,
    gated,
    scaled,
    split,
    pools,
)


@pytest.mark.parametrize("way", WAYS)
def test_every_operation_balances_and_computes_the_same(way, images, targets):
    net = calibrated(Written(way), 32)
    one, other = (canonical(net, images).graph_module for _ in range(2))
    for graph in (one, own_modules(other)):
        torch.testing.assert_close(graph(images), net(images))
    with torch.no_grad():
        for rules in (RULES, LRP):  # LRP's folds the batch norms
            torch.testing.assert_close(Network(net, images, rules).forward(images).logits, net(images))
    balances: list[rapbench.relevance.Balance] = []
    relevance = rapbench.attribute(net, images, targets % 5, balance=balances)
    assert relevance.abs().sum() > 0
    for entry in balances:
        error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
        assert (error <= 1e-9 * (1 + entry.total)).all(), entry.place


@pytest.mark.parametrize("name", [name for name, case in NETWORKS.items() if not case.heavy])
def test_a_traced_network_computes_the_same(name):
    case = NETWORKS[name]
    network, x = case.network(case.small), torch.randn(2, *case.small).double()
    with torch.no_grad():
        torch.testing.assert_close(canonical(network, x).graph_module(x), network(x))
        for rules in (RULES, LRP):
            torch.testing.assert_close(Network(network, x, rules).forward(x).logits, network(x))


def product(n, x):
    x = n.first(x)
    return n.head((x * n.second(x)).mean((2, 3)))


def two_gates(n, x):
    return n.head((torch.sigmoid(n.first(x)) * F.relu6(n.first(x))).mean((2, 3)))


def swish(n, x):
    x = n.first(x)
    return n.head(n.second(x * torch.sigmoid(x)).mean((2, 3)))


def hswish_backwards(n, x):
    x = n.first(x)
    return n.head(n.second(F.relu6(x + 3) / 6 * x).mean((2, 3)))


@pytest.mark.parametrize(("way", "activation"), [(swish, F.silu), (hswish_backwards, F.hardswish)])
@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a2b1"])
def test_a_gate_leaves_relevance_to_its_signal(way, activation, method, images, targets):
    def plain(n, x):
        return n.head(n.second(activation(n.first(x))).mean((2, 3)))

    net, other = (calibrated(Written(forward), 32) for forward in (way, plain))
    got, want = (rapbench.attribute(network, images, targets % 5, method) for network in (net, other))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_what_mixes_the_input_with_features_is_not_the_input():
    class Mix(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(7, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            x = 2 * x.flip(1)
            return self.head(self.second(torch.cat([x, self.first(x)], 1)).mean((2, 3)))

    network = Network(Mix())
    readers = {node.target: node.all_input_nodes[0] in network.like_input for node in network.path}
    assert readers["first"]
    assert not readers["second"]


def difference(n, x):
    x = n.first(x)
    return n.head((x - n.second(x)).mean((2, 3)))


@pytest.mark.parametrize(("way", "says"), [(product, "mul"), (two_gates, "mul"), (difference, "sub")])
def test_a_product_or_difference_of_two_signals_is_refused(way, says, images):
    with pytest.raises(rapbench.RapbenchError, match=f"no relevance rule for {says} at the top level"):
        rapbench.attribute(Written(way).double(), images, 0)


@pytest.mark.parametrize("method", ["rap", "lrp_a1b0"])
def test_batch_statistics_are_refused(method, images):
    net = Written(modules).double()
    net.norm = nn.BatchNorm2d(8, track_running_stats=False).double()
    with pytest.raises(rapbench.RapbenchError, match="a batch norm needs running statistics"):
        rapbench.attribute(net, images, 0, method)


@pytest.mark.parametrize("method", ["rap", "lrp_a1b0"])
def test_what_is_kept_of_a_model_follows_its_changes(method, images, targets):
    net = calibrated(Written(modules), 32)
    rapbench.attribute(net, images, targets % 5, method)
    with torch.no_grad():
        net.first.weight.data.mul_(torch.rand_like(net.first.weight))
        net.norm.running_mean.add_(0.5)
    net.second = nn.Conv2d(8, 8, 1).double()
    net.relu = nn.ReLU6()
    fresh = Written(modules).double().eval()
    fresh.second, fresh.relu = nn.Conv2d(8, 8, 1).double(), nn.ReLU6()
    fresh.load_state_dict(net.state_dict())
    for count in (3, 2):
        x, t = images[:count], targets[:count] % 5
        assert torch.equal(rapbench.attribute(net, x, t, method), rapbench.attribute(fresh, x, t, method))


@pytest.mark.parametrize("method", ["rap", "lrp_a1b0"])
def test_a_graph_for_one_size_is_not_used_for_another(method, images, targets):
    def by_size(n, x):
        x = n.first(x)
        return n.head((n.second(F.relu(x)) if x.shape[-1] > 20 else x).mean((2, 3)))

    net = calibrated(Written(by_size), 32)
    rapbench.attribute(net, images, targets % 5, method)
    got = rapbench.attribute(net, images[..., :16, :16], targets % 5, method)
    want = rapbench.attribute(copy.deepcopy(net), images[..., :16, :16], targets % 5, method)
    assert torch.equal(got, want)


def test_explicit_padding_is_no_pixel():
    """A network that pads by hand gets what one gets whose convolution pads, at the input layer too."""
    net = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 4, 2), nn.Flatten(), nn.Linear(64, 3)).double()
    x = torch.rand(2, 1, 4, 4).double() + 1  # no pixel is 0, as padding is
    balances: list[rapbench.relevance.Balance] = []
    relevance = rapbench.attribute(net, x, 1, balance=balances)
    assert relevance.abs().min() > 0
    assert sum(entry.dropped.abs().sum() for entry in balances) < 1e-12


CALLS = {
    "add with alpha": lambda n, x: torch.add(n.first(x), n.first(x) + 1, alpha=2),
    "add by keyword": lambda n, x: torch.add(input=n.first(x), other=n.first(x) + 1),
    "add a constant with alpha": lambda n, x: n.first(x).add(1, alpha=3),
    "sub with alpha": lambda n, x: torch.sub(n.first(x), 0.5, alpha=2),
    "div, rounded": lambda n, x: torch.div(n.first(x), 0.3, rounding_mode="floor"),
    "mean of a type": lambda n, x: n.first(x).mean((2, 3), keepdim=True, dtype=torch.float64).expand(-1, -1, 4, 4),
    "cat with a constant": lambda n, x: torch.cat([n.first(x)[:, :4], n.scale[None, :4].expand(3, 4, 32, 32)], 1),
    "batch norm without bias": lambda n, x: F.batch_norm(n.first(x), n.norm.running_mean, n.norm.running_var,
                                                         n.norm.weight),
    "batch norm without weight": lambda n, x: F.batch_norm(n.first(x), n.norm.running_mean, n.norm.running_var,
                                                           bias=n.norm.bias, eps=0.1),
    "dropout of nothing": lambda n, x: F.dropout(n.first(x), 0.0, training=True),
    "max pooling with indices": lambda n, x: F.max_pool2d(n.first(x), 2, return_indices=True)[0],
    "adaptive max pooling with indices": lambda n, x: F.adaptive_max_pool2d(n.first(x), 4, return_indices=True)[0],
    "average pooling with a divisor": lambda n, x: F.avg_pool2d(n.first(x), 2, divisor_override=3),
    "average pooling by size": lambda n, x: F.avg_pool2d(n.first(x), x.size()[2:]),
    "padding by size": lambda n, x: n.first(F.pad(x, (0, x.shape[-1] % 5, 0, 1))),
    "leaky with a slope": lambda n, x: F.leaky_relu(n.first(x), 0.3),
    "prelu": lambda n, x: F.prelu(n.first(x), n.scale.flatten()),
    "softplus": lambda n, x: F.softplus(n.first(x), 3, threshold=1),
    "hardtanh": lambda n, x: F.hardtanh(n.first(x), -0.5, max_val=0.7),
    "chunks by slice": lambda n, x: torch.cat(n.first(x).chunk(4, 1)[1:3] * 2, 1),
    "split sizes": lambda n, x: torch.cat(torch.split(n.first(x), [2, 6], dim=1)[::-1], 1),
    "clamp": lambda n, x: n.first(x).clamp(-0.3, 0.4),
    "scaled by a size": lambda n, x: n.first(x) / x.shape[-1] ** 0.5,
    "a computed scale": lambda n, x: n.first(x) * n.scale.abs().sqrt() + n.norm.running_mean.view(1, -1, 1, 1),
    "a shape of a weight": lambda n, x: n.first(x) * n.first.weight.shape[0],
}  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_no_argument_of_a_call_is_lost(call, images):
    """The modules compute what the call does, or there is none and the call stays."""

    def way(n, x):
        return n.head(F.relu(CALLS[call](n, x)).mean((2, 3)))

    net = calibrated(Written(modules), 32)
    net.way[0] = way
    with torch.no_grad():
        torch.testing.assert_close(canonical(net, images).graph_module(images), net(images))
        try:
            logits = Network(net, images).logits(images)
        except rapbench.RapbenchError as error:
            assert "no relevance rule for" in str(error)  # noqa: PT017
        else:
            torch.testing.assert_close(logits, net(images))


@pytest.mark.parametrize("method", ["rap", "lrp_a1b0", "guided_backprop"])
def test_computed_weights_follow_what_they_are_computed_from(method, images, targets):
    def way(n, x):
        h = F.relu(F.conv2d(x, n.first.weight / 2 * n.norm.running_var.view(-1, 1, 1, 1), n.first.bias, padding=1))
        return n.head(F.relu(n.second(h)).mean((2, 3)))

    net = calibrated(Written(way), 32)
    nn.utils.parametrizations.weight_norm(net.second)
    nn.utils.weight_norm(net.head)
    rapbench.attribute(net, images, targets % 5, method)
    with torch.no_grad():
        net.first.weight.data.mul_(torch.rand_like(net.first.weight))
        net.norm.running_var.add_(0.5)
        net.second.parametrizations.weight.original1.data.add_(0.1)
        net.head.weight_g.data.mul_(2)
    got = rapbench.attribute(net, images, targets % 5, method)
    other = calibrated(Written(way), 32)
    nn.utils.parametrizations.weight_norm(other.second)
    nn.utils.weight_norm(other.head)
    other.load_state_dict(net.state_dict())
    assert torch.equal(got, rapbench.attribute(other.eval(), images, targets % 5, method))


@pytest.mark.parametrize("change", [
    lambda net: net.way.__setitem__(0, gated),
    lambda net: setattr(net, "slope", 0.5),
    lambda net: net.options.update(slope=0.5),
    lambda net: setattr(net, "shift", torch.ones(1).double()),
    lambda net: net.shift.add_(1),
])  # fmt: skip
def test_a_graph_follows_plain_attributes(change, images, targets):
    def way(n, x):
        x = F.leaky_relu(n.first(x), n.slope + n.options["slope"]) + n.shift
        return n.head(n.second(x).mean((2, 3)))

    net = calibrated(Written(modules), 32)
    net.way[0], net.slope, net.options, net.shift = way, 0.1, {"slope": 0.1}, torch.zeros(1).double()
    before = rapbench.attribute(net, images, targets % 5)
    change(net)
    got = rapbench.attribute(net, images, targets % 5)
    assert not torch.equal(got, before)
    assert torch.equal(got, rapbench.attribute(copy.deepcopy(net), images, targets % 5))


def test_tracing_leaves_nothing_on_the_model(images):
    def way(n, x):
        n.seen = n.first(x)
        return n.head((n.seen + torch.ones(1, dtype=x.dtype)).mean((2, 3)))

    net = calibrated(Written(way), 32)
    net(images)
    before = dict(vars(net))
    canonical(net, images)
    assert vars(net).keys() == before.keys()
    assert all(vars(net)[key] is before[key] for key in before)


def test_a_graph_that_computes_something_else_is_refused(images, monkeypatch):
    """The comparison itself: whatever is wrong with a traced form, its logits are not given out."""
    net = calibrated(Written(modules), 32)
    for wrong in (lambda logits: logits * 1.01, lambda logits: logits.flip(1), lambda logits: logits[:, :4],
                  lambda logits: logits * torch.nan):  # fmt: skip
        own = Network.logits
        monkeypatch.setattr(Network, "logits", lambda self, x, own=own, wrong=wrong: wrong(own(self, x)))
        with pytest.raises(rapbench.RapbenchError, match="gives other logits than the model itself"):
            rapbench.attribute(net, images, 0)
        monkeypatch.undo()


def zeroed(bias):
    bias[2:4].zero_()


def scaled(bias):
    bias.mul_(3.0)


def through_a_view_of_a_view(bias):
    bias.view(4, 2)[1:].add_(1.0)


@pytest.mark.parametrize("change", [zeroed, scaled, through_a_view_of_a_view])
def test_a_constant_is_read_as_it_was_changed_in_place_before(change, images, targets):
    """As torchvision's Swin V2 clears a part of a copied bias."""

    def way(n, x):
        bias = n.scale.flatten().clone()
        x = n.first(x) + bias.view(-1, 1, 1)  # not changed yet
        change(bias)
        x = (x + bias.view(-1, 1, 1)).relu()
        return n.head(n.second(x).mean((2, 3)))

    net = calibrated(Written(way), 32)
    graph = canonical(net, images)
    with torch.no_grad():
        assert torch.allclose(graph.graph_module(images), net(images))
        net.scale.mul_(2)
        graph.update()
        assert torch.allclose(graph.graph_module(images), net(images))
    rapbench.attribute(net, images, targets % 5, "lrp_epsilon")
