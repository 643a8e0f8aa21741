"""How networks end, and what else relevance needs of them: propagated to the pixels, or refused in one line."""

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import rapbench
from rapbench.relevance import RULES, Balance, Network, rule
from rapbench.relevance.aaai import AAAI
from rapbench.relevance.lrp import LRP
from tests.conftest import calibrated

PROPAGATED = ["rap", "rap_aaai", "lrp_a1b0", "lrp_a2b1", "lrp_alpha_beta", "lrp_epsilon", "lrp_preset_a",
              "lrp_preset_b"]  # fmt: skip


class Written(nn.Module):
    """A small network whose forward is the function that a test gives."""

    def __init__(self, forward):
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1)
        self.head, self.other, self.extra = nn.Linear(4, 5), nn.Linear(4, 5), nn.Linear(5, 5)
        self.norm, self.across = nn.BatchNorm2d(4), nn.BatchNorm1d(36)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.offset = nn.Parameter(torch.rand(1, 8, 1, 1))
        self.way = [forward]

    def forward(self, x):
        return self.way[0](self, x)

    def features(self, x):
        return F.relu(self.conv(x)).mean((2, 3))


def written(way):
    torch.manual_seed(0)
    return Written(way).double().eval()


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


REAL = {
    "squeezenet1_1": (lambda: torchvision.models.squeezenet1_1(weights=None, num_classes=10), 64),
    "dla34": (lambda: timm.create_model("dla34", num_classes=10), 32),
    "timm/mobilenetv3_small_050": (lambda: timm.create_model("mobilenetv3_small_050", num_classes=10), 64),
}


@pytest.mark.parametrize("name", REAL)
def test_networks_that_end_in_a_convolution(name):
    build, size = REAL[name]
    torch.manual_seed(0)
    network = calibrated(build(), size)
    x = torch.randn(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for method in ("rap", "rap_aaai", "lrp_a1b0", "lrp_preset_b"):
        balances: list[Balance] = []
        relevance = rapbench.attribute(network, x, 3, method, balance=balances)
        assert (relevance.abs().flatten(1).sum(1) > 0).all()
        for entry in balances:
            error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
            assert (error <= 1e-9 * (1 + entry.total)).all(), f"{method}: {entry.place}"
        whole = torch.zeros(2).double() if method == "rap" else network(x)[:, 3].detach()
        dropped = sum(entry.dropped for entry in balances)
        scale = sum(entry.total for entry in balances) / len(balances) + relevance.abs().flatten(1).sum(1)
        assert ((relevance.flatten(1).sum(1) + dropped - whole).abs() <= 1e-9 * scale).all()
        alone = rapbench.attribute(network, x[1:], 3, method)
        assert (alone[0] - relevance[1]).abs().max() < 1e-9 * relevance[1].abs().max()


@pytest.mark.parametrize("method", PROPAGATED)
def test_a_last_convolution_of_one_pixel_is_a_fully_connected_layer(method, x):
    def linear(n, x):
        return n.head(n.features(x))

    def convolution(n, x):
        x = F.relu(n.conv(x)).mean((2, 3), keepdim=True)
        return F.conv2d(x, n.head.weight[:, :, None, None], n.head.bias).flatten(1)

    want = rapbench.attribute(written(linear), x, 1, method)
    if method in ("lrp_preset_a", "lrp_preset_b"):  # another rule in convolutions
        return
    net = written(linear)
    last = nn.Conv2d(4, 5, 1).double()
    last.weight.data, last.bias.data = net.head.weight.data[:, :, None, None], net.head.bias.data
    other = nn.Sequential(net.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), last, nn.Flatten())
    torch.testing.assert_close(rapbench.attribute(other, x, 1, method), want, rtol=1e-9, atol=1e-12)


# what stands at the end, and what the message names
PROBABILITIES = {
    "Softmax at 3": lambda: nn.Softmax(1),
    "LogSoftmax at 3": lambda: nn.LogSoftmax(1),
    "Softmin at 3": lambda: nn.Softmin(1),
    "Sigmoid at 3": lambda: nn.Sigmoid(),
    "LogSigmoid at 3": lambda: nn.LogSigmoid(),
    "Hardsigmoid at 3": lambda: nn.Hardsigmoid(),
}
FUNCTIONS = {
    "Softmax at the top level": lambda n, x: F.softmax(n.head(n.features(x)), 1),
    "log_softmax at the top level": lambda n, x: torch.log_softmax(n.head(n.features(x)), 1),
    "Softmax at the top level ": lambda n, x: n.head(n.features(x)).softmax(-1).flatten(1),
    "Softmax at the top level  ": lambda n, x: (n.head(n.features(x)).softmax(-1) + n.other(n.features(x))) / 2,
    "Sigmoid at the top level": lambda n, x: 2 * torch.sigmoid(n.head(n.features(x))),
}


@pytest.mark.parametrize("method", PROPAGATED)
@pytest.mark.parametrize("says", [*PROBABILITIES, *FUNCTIONS])
def test_probabilities_are_refused_by_name(method, says, x):
    if says in PROBABILITIES:
        network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 5), PROBABILITIES[says]()).double()
    else:
        network = written(FUNCTIONS[says])
    with pytest.raises(rapbench.RapbenchError, match=f"the model ends in {says.strip()}.*logits.*Identity"):
        rapbench.attribute(network, x, 1, method)


def test_a_gate_is_no_probability_and_neither_is_one_below_the_last_layer(x):
    def gated(n, x):
        x = n.head(n.features(x))
        return n.extra(x * torch.sigmoid(x).flatten(1))

    def gated_at_the_end(n, x):
        x = n.head(n.features(x))
        return x * torch.sigmoid(n.other(x[:, :4]))

    for way in (gated, gated_at_the_end):
        for method in PROPAGATED:
            assert rapbench.attribute(written(way), x, 1, method).isfinite().all()


def test_two_last_layers_each_take_the_first_propagation(x):
    """The mean of two heads is one head whose features are those of both, but for the shares of the sum."""

    def two(n, x):
        x = n.features(x)
        return (n.head(x) + n.other(x)) / 2

    balances: list[Balance] = []
    network = written(two)
    relevance = rapbench.attribute(network, x, 1, balance=balances)
    assert {entry.place for entry in balances if (entry.relevance_out == 0).all()} >= {"head", "other"}
    dropped = sum(entry.dropped for entry in balances)
    torch.testing.assert_close(relevance.flatten(1).sum(1), -dropped)


def beside_the_head(n, x):
    x = n.head(n.features(x))
    return n.extra(x) + x


def around_the_head(n, x):
    return n.head(n.features(x)) + x.mean((2, 3))[:, :1]


def no_head(n, x):
    return x.mean((2, 3))


UNCLEAR = {beside_the_head: "Linear at head leads to the output both", around_the_head: "a way goes through none",
           no_head: "a way goes through none"}  # fmt: skip


@pytest.mark.parametrize("method", ["rap", "rap_aaai"])
@pytest.mark.parametrize("way", UNCLEAR)
def test_an_unclear_first_propagation_is_refused_and_lrp_has_none(way, method, x):
    with pytest.raises(rapbench.RapbenchError, match=UNCLEAR[way]):
        rapbench.attribute(written(way), x, 1, method)
    assert rapbench.attribute(written(way), x, 1, "lrp_a2b1").isfinite().all()


def test_an_own_module_above_the_last_layer_may_be_one_itself(x):
    class Turned(nn.Linear):
        """Linear, but not of a type that the first propagation knows."""

    network = nn.Sequential(nn.Conv2d(3, 4, 8), nn.Flatten(), nn.Linear(4, 4), Turned(4, 5)).double()

    @rule(Turned)
    def turned(step, flows):
        return [(flow.relevance[:, :4],) for flow in flows]

    with pytest.raises(rapbench.RapbenchError, match="whether Turned at 3 is one is not known"):
        rapbench.attribute(network, x, 1)
    assert rapbench.attribute(network, x, 1, "lrp_a1b0").isfinite().all()


def mixed(function):
    return lambda n, x: n.head(function(n, F.relu(n.conv(x))).mean((2, 3)))


# what mixes the images of a batch, which no rule can tell apart
MIXING = {
    "cat": lambda n, x: n.head(torch.cat([n.features(x), n.features(x.flip(3))], 0))[: x.shape[0]],
    "flip": mixed(lambda n, h: h.flip(0)),
    "roll": mixed(lambda n, h: torch.roll(h, 1, 0)),
    "getitem": mixed(lambda n, h: h[[1, 0]]),
    "transpose": mixed(lambda n, h: h[:, :2].transpose(0, 1).transpose(0, 1)),
    "view": mixed(lambda n, h: h.view(1, -1, *h.shape[2:]).flip(1).view_as(h)),
    "narrow": lambda n, x: n.head(torch.cat([n.features(x).narrow(0, 1, 1), n.features(x).narrow(0, 0, 1)], 0)),
}


@pytest.mark.parametrize("method", PROPAGATED)
@pytest.mark.parametrize("name", MIXING)
def test_what_mixes_the_images_of_a_batch_is_refused(name, method, x):
    says = "does not keep the images of a batch apart|depend on the other images in its batch|fails on inputs"
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(written(MIXING[name]), x, 1, method)


@pytest.mark.parametrize("method", PROPAGATED)
def test_an_image_in_several_rows_is_apart_from_the_others(method, x):
    def halves(n, x):
        return n.head(n.features(x.view(-1, 3, 4, 8))).view(-1, 10)[:, :5]

    relevance = rapbench.attribute(written(halves), x, 1, method)
    first, second = relevance.view(2, 2, 3, 4, 8).unbind(1)
    assert (first.flatten(1).abs().sum(1) > 0).all()
    if method != "rap":  # whose correction for biases takes from each position of a layer
        assert (second == 0).all()
    for one in range(2):
        alone = rapbench.attribute(written(halves), x[one : one + 1], 1, method)
        torch.testing.assert_close(relevance[one : one + 1], alone, rtol=1e-9, atol=1e-12)


# operations without a rule, each with what names it
WITHOUT_A_RULE = {
    "CrossMapLRN2d": lambda: nn.CrossMapLRN2d(2), "LogSigmoid": lambda: nn.LogSigmoid(),
    "Softsign": lambda: nn.Softsign(), "LocalResponseNorm": lambda: nn.LocalResponseNorm(2),
    "LPPool2d": lambda: nn.LPPool2d(2, 2), "Softmax": lambda: nn.Softmax(1), "GLU": lambda: nn.GLU(1),
    "FractionalMaxPool2d": lambda: nn.FractionalMaxPool2d(2, output_size=3), "Unfold": lambda: nn.Unfold(2),
    "Upsample": lambda: nn.Upsample(scale_factor=2, mode="bicubic"), "Softmax2d": lambda: nn.Softmax2d(),
    "MaxPool2d": lambda: nn.Sequential(nn.MaxPool2d(2, return_indices=True), First()),
}  # fmt: skip


class First(nn.Module):
    def forward(self, pair):
        return pair[0]


@pytest.mark.parametrize("method", PROPAGATED)
@pytest.mark.parametrize("name", WITHOUT_A_RULE)
def test_a_module_without_a_rule_is_refused_by_name_and_place(name, method, x):
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), WITHOUT_A_RULE[name]())
    features = body.double()(x).flatten(1).shape[1]
    network = nn.Sequential(body, nn.ReLU(), nn.Flatten(), nn.Linear(features, 5)).double()
    with pytest.raises(rapbench.RapbenchError, match=rf"no relevance rule for {name} at 0\.2"):
        rapbench.attribute(network, x, 1, method)


HIDDEN = {
    "abs": lambda n, h: h.abs(), "pow": lambda n, h: h**2, "mul": lambda n, h: h * n.second(h),
    "sub": lambda n, h: h - n.second(h), "add": lambda n, h: torch.add(h, n.second(h), alpha=2),
    "mean": lambda n, h: h.mean((2, 3), dtype=torch.float64)[:, :, None, None], "exp": lambda n, h: h.exp(),
    "clamp": lambda n, h: h.clamp(0.1, 0.5), "Softmax": lambda n, h: h.softmax(1), "amax": lambda n, h: h.amax(
        (2, 3), keepdim=True), "MatMul": lambda n, h: h @ h.transpose(2, 3), "neg": lambda n, h: -h,
    "Interpolate": lambda n, h: F.interpolate(h, scale_factor=2.0, mode="bicubic"),
    "ConvTranspose2d": lambda n, h: n.up(h, output_size=(13, 13)),
}  # fmt: skip


@pytest.mark.parametrize("method", PROPAGATED)
@pytest.mark.parametrize("name", HIDDEN)
def test_a_function_without_a_rule_is_refused_by_name(name, method, x):
    with pytest.raises(rapbench.RapbenchError, match=f"no relevance rule for {name} at"):
        rapbench.attribute(written(mixed(HIDDEN[name])), x, 1, method)


@pytest.mark.parametrize("method", [method for method in PROPAGATED if method.startswith("lrp")])
def test_a_norm_across_the_positions_of_a_fully_connected_layer_is_not_folded_into_it(method, x):
    """It scales positions, not the layer's outputs; as many of either would hide that."""

    def across(n, x):
        return n.last(n.across(n.tokens(F.relu(n.conv(x)).flatten(2).transpose(1, 2))).flatten(1))

    network = written(across)
    network.tokens, network.last = nn.Linear(4, 36).double(), nn.Linear(36 * 36, 5).double()
    with pytest.raises(rapbench.RapbenchError, match="no relevance rule for BatchNorm1d at across: it normalises dim"):
        rapbench.attribute(network, x, 1, method)


@pytest.mark.parametrize("method", PROPAGATED)
def test_sums_resizing_and_constants_work_as_they_are_written(method, x):
    """Functions are their modules; the sum over positions is their mean, of other size; an addend takes nothing."""

    def sums(n, x):
        return n.head(F.relu(n.conv(x)).sum((2, 3)) / 36)

    def means(n, x):
        return n.head(n.features(x))

    want = rapbench.attribute(written(means), x, 1, method)
    tolerance = 1e-4 if method.startswith("lrp") else 1e-9  # of LRP's stabilizer
    torch.testing.assert_close(rapbench.attribute(written(sums), x, 1, method), want, rtol=tolerance, atol=tolerance)

    def resized(n, x):
        return n.head(n.second(F.interpolate(F.relu(n.conv(x)), size=(3, 4), mode="bilinear")).mean((2, 3)))

    net = written(resized)
    modules = nn.Sequential(net.conv, nn.ReLU(), nn.Upsample((3, 4), mode="bilinear"), net.second,
                            nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head)  # fmt: skip
    got, want = (rapbench.attribute(network, x, 1, method) for network in (net, modules))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)

    def shifted(n, x):
        return n.head((F.relu(n.conv(x)) + n.offset[:, 2:6]).mean((2, 3)))

    net = written(shifted)
    net.moved = nn.Parameter(net.offset.data[:, 2:6].clone())
    other = written(lambda n, x: n.head((F.relu(n.conv(x)) + n.moved).mean((2, 3))))
    other.load_state_dict(net.state_dict(), strict=False)
    other.moved = net.moved
    got, want = (rapbench.attribute(network, x, 1, method) for network in (net, other))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)

    def transposed(n, x):
        return n.head(F.relu(F.conv_transpose2d(F.relu(n.conv(x)), n.up.weight, n.up.bias, stride=2)).mean((2, 3)))

    net = written(transposed)
    modules = nn.Sequential(net.conv, nn.ReLU(), net.up, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.head)
    got, want = (rapbench.attribute(network, x, 1, method) for network in (net, modules))
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-12)


def test_a_rule_of_ones_own_that_looks_at_what_a_relu_is_given_sees_it(x):
    """A ReLU works in place on what it alone reads, unless the way back needs that."""
    seen = []
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).double()
    rules = type(RULES)({}, *RULES.maps, head=RULES.head)

    @rules.rule(nn.ReLU)
    def relu(step, flows):
        seen.append(step.inputs[0])
        return [(flow.relevance,) for flow in flows]

    from rapbench.relevance import Options, explain

    explain(network, x, torch.tensor([1, 1]), Options(), {"normal": 1}, None, rules)
    assert torch.equal(seen[0], network[0](x))


@pytest.mark.parametrize("rules", [RULES, AAAI, LRP], ids=["rap", "rap_aaai", "lrp"])
def test_half_precision_is_refused_where_it_is_computed_in(rules, x):
    from rapbench.relevance import Options, explain

    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(rapbench.RapbenchError, match=r"float32 or float64, the inputs are torch\.b?float16"):
            explain(network.to(dtype), x.to(dtype), torch.tensor([1, 1]), Options(), {"normal": 1}, None, rules)


def test_the_models_own_shapes_are_said(x):
    for network, says in (
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"returns \(2, 4, 6, 6\)"),
        (written(lambda n, x: (n.head(n.features(x)), x)), "returns several tensors"),
        (written(lambda n, x: n.head.weight), "does not depend on its input"),
    ):
        with pytest.raises(rapbench.RapbenchError, match=says):
            Network(network.double().eval(), x, LRP).forward(x)
