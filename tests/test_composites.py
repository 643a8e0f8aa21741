"""Composites of LRP's rules of one's own, the box of z^B, and zennit's composites by their names."""

import builtins
from typing import get_args

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite, MixedComposite, NameMapComposite, layer_map_base
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import Convolution

import rapbench
from rapbench.relevance.composites import NAMED, RuleName
from rapbench.relevance.engine import ready
from rapbench.relevance.lrp import LRP
from rapbench.relevance.pixel_box import pixel_box
from tests.conftest import NETWORKS, calibrated
from tests.referee import explained_by


def small() -> nn.Sequential:
    return calibrated(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(),
                                    nn.Linear(144, 6), nn.ReLU(), nn.Linear(6, 5)), 10)  # fmt: skip


X = torch.randn(2, 3, 10, 10, generator=torch.Generator().manual_seed(1)).double()


def same(got, want):
    assert (got - want).abs().max() < 1e-9 * want.abs().max()


@pytest.mark.parametrize("owner", [lambda network: network, lambda network: rapbench.Model(network).double()])
def test_a_composite_of_ones_own_is_zennits(owner, images):
    network = calibrated(NETWORKS["resnet_basic"](), 32).float().double()
    rules = {
        "convolution": "zplus",
        "dense": {"rule": "epsilon", "stabilizer": 0.25},
        "first": "wsquare",
        "layer3.*": {"rule": "gamma", "gamma": 0.5},
        "layer4.*": "flat",
        "layer4.0.conv2": {"rule": "alpha_beta", "alpha": 3.0},
    }
    named = [(("conv1",), WSquare()), (("layer4.0.conv2",), AlphaBeta(3, 2)),
             (("layer4.0.conv1", "layer4.0.downsample.0"), Flat()),
             (("layer3.0.conv1", "layer3.0.conv2", "layer3.0.downsample.0"), Gamma(0.5))]  # fmt: skip
    by_type = [*layer_map_base(), (Convolution, ZPlus()), (nn.Linear, Epsilon(0.25))]
    composite = MixedComposite([NameMapComposite(named), LayerMapComposite(by_type)], canonizers=[ResNetCanonizer()])
    same(rapbench.attribute(owner(network), images, 3, "lrp", rules=rules), explained_by(composite, network, images, 3))


def test_the_more_special_key_counts_whatever_the_order():
    pairs = [("Conv2d", "flat"), ("convolution", "zplus"), ("first", "wsquare"), ("?", "gamma"), ("2", "epsilon"),
             ("last", "zplus")]  # fmt: skip
    got = [rapbench.attribute(small(), X, 1, "lrp", rules=dict(order)) for order in (pairs, pairs[::-1])]
    want = rapbench.attribute(small(), X, 1, "lrp", rules={"0": "gamma", "2": "epsilon", "dense": "gamma"})
    assert torch.equal(got[0], got[1])
    assert torch.equal(got[0], want)  # patterns come before positions and types
    both = {"first": "flat", "Conv2d": "gamma", "convolution": "zplus", "last": "epsilon", "dense": "zplus"}
    want = rapbench.attribute(small(), X, 1, "lrp", rules={"0": "flat", "2": "gamma", "5": "zplus", "7": "epsilon"})
    assert torch.equal(rapbench.attribute(small(), X, 1, "lrp", rules=both), want)


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.dense = nn.Conv2d(3, 4, 10)
        self.last = nn.Linear(4, 5)

    def forward(self, x):
        return self.last(self.dense(x).flatten(1))


REFUSED = {
    "misspelt layer": ({"5x": "flat"}, r"rules: '5x' is no layer.*first, last.*Conv2d.*0, 2, 5, 7"),
    "misspelt type": ({"convolutio": "flat"}, r"did you mean 'convolution'"),
    "pattern of none": ({"layer*": "flat"}, r"rules: 'layer\*' is no layer"),
    "module of no rule": ({"1": "flat"}, r"rules: '1' is no layer"),
    "layer without a rule": ({"convolution": "flat"}, r"rules: none for Linear at 5; add one for 'dense', 'Linear'"),
    "none at all": ({}, r"rules: none for Conv2d at 0"),
    "contradiction": ({"?": "flat", "[0-9]": "zplus"}, r"'\?' and '\[0-9\]' both speak of 0; add it by its name"),
    "first and last": ({"?": "flat", "first": {"rule": "gama"}}, r"no rule is called 'gama' \(did you mean 'gamma'"),
    "no name": ({"?": {"gamma": 1.0}}, r"'\?': no rule: write its name"),
    "unknown option": ({"?": {"rule": "flat", "bias": "ignored"}}, r"rule 'flat' has no option 'bias'"),
    "value": ({"?": {"rule": "epsilon", "stabilizer": "much"}}, r"rule 'epsilon': option stabilizer='much'"),
    "gamma": ({"?": {"rule": "gamma", "gamma": -1.0}}, r"gamma=-1.0 is no magnitude"),
    "alpha": ({"?": {"rule": "alpha_beta", "alpha": 0.5}}, r"alpha=0.5 makes beta"),
    "no range": ({"?": "zplus", "0": "zbox"}, r"z\^B of Conv2d at 0 needs the range of pixel values, and the model"),
    "no image": ({"?": "zplus", "2": "zbox"}, r"z\^B of Conv2d at 2 needs the range of the layer's input"),
}  # fmt: skip


@pytest.mark.parametrize(("rules", "says"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_named_in_one_line(rules, says):
    with pytest.raises(rapbench.RapbenchError, match=says) as raised:
        rapbench.attribute(small(), X, 1, "lrp", rules=rules)
    assert "\n" not in str(raised.value)


def test_a_word_that_is_also_a_layers_name_is_refused():
    for word in ("dense", "last"):
        with pytest.raises(rapbench.RapbenchError, match=rf"'{word}' is a position or type.*'\[{word[0]}\]{word[1:]}'"):
            rapbench.attribute(Named().double(), X, 1, "lrp", rules={"convolution": "flat", word: "zplus"})
    by_pattern = {"[d]ense": "flat", "[l]ast": "zplus"}
    assert rapbench.attribute(Named().double(), X, 1, "lrp", rules=by_pattern).isfinite().all()
    assert rapbench.attribute(Named().double(), X, 1, "lrp_preset_a").isfinite().all()  # a built-in one means types


def test_every_rule_has_its_name():
    assert set(NAMED) == set(get_args(RuleName))


class Transforming(nn.Module):
    """Rescales the image's channels as torchvision's Inception does, one with its sign changed, and pads it."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(4 * 144, 5)

    def forward(self, x):
        x = torch.cat([x[:, :1] * 2 + 0.5, x[:, 1:2] * -3, x[:, 2:] - 1], 1)
        return self.head(self.conv(nn.functional.pad(x, (1, 1, 1, 1))).relu().flatten(1))


def test_the_box_is_the_pixels_as_the_layer_sees_them():
    network = Transforming().double().eval()
    model = rapbench.Model(network, mean=[0.5, 0.25, 0.0], std=[0.5, 0.25, 1.0]).double()
    made = ready(model, X, LRP)
    layer = next(node for node in made.path if "conv" in str(node.target) or "Padded" in str(node.target))
    low, high = pixel_box(made, model, X, layer)
    middle = (..., 5, 5)
    torch.testing.assert_close(low[middle], torch.tensor([[-1.5, -9.0, -1.0]]).double())
    torch.testing.assert_close(high[middle], torch.tensor([[2.5, 3.0, 0.0]]).double())


# zennit by name


def test_zennit_is_run_by_its_composites_names(images):
    network = calibrated(NETWORKS["resnet_bottleneck"](), 32)
    got = rapbench.attribute(network, images, 3, "zennit:EpsilonPlus", epsilon=0.1)
    same(got, rapbench.attribute(network, images, 3, "lrp_epsilon_plus", stabilizer=0.1))
    before = [tensor.clone() for tensor in network.state_dict().values()]
    rapbench.attribute(network, images, 3, "zennit:EpsilonAlpha2Beta1Flat")
    assert all(torch.equal(one, other) for one, other in zip(before, network.state_dict().values(), strict=True))
    bounds = {"low": float(images.min()), "high": float(images.max())}
    got = rapbench.attribute(network, images[:1], 3, "zennit:EpsilonGammaBox", **bounds)
    assert got.isfinite().all()


class Blocks(nn.Module):
    """A network with something between its convolutions that zennit may not see."""

    def __init__(self, between, **modules):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu, self.pool, self.head = nn.ReLU(), nn.AvgPool2d(2), nn.Linear(4 * 25, 5)
        self.between = between
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, x):
        return self.head(self.pool(self.between(self, self.relu(self.first(x)))).flatten(1))


UNSEEN = {
    "addition": (lambda m, h: m.second(h) + h, r"at add at .*zennit sees modules only"),
    "addition in place": (lambda m, h: m.second(h).add_(h), r"at add_ at .*zennit sees modules only"),
    "mean": (lambda m, h: m.second(h) * m.second(h).mean((2, 3), keepdim=True).sigmoid(), "at (mean|Conv2d)"),
    "functional layer": (lambda m, h: nn.functional.conv2d(h, m.second.weight, padding=1), "at conv2d"),
    "called twice": (lambda m, h: m.second(m.relu(m.second(h))), "Conv2d at second: the module is called twice"),
    "pooling twice": (lambda m, h: nn.functional.pad(m.pool(h), (5, 0, 5, 0)), "AvgPool2d at pool: .* called twice"),
    "norm of a layer": (lambda m, h: m.norm(m.second(h)), "GroupNorm at norm: the composite has no rule for it"),
    "weight that is computed": (lambda m, h: m.scaled(h), "Conv2d at scaled: its weight is no parameter"),
    "norm before its layer": (lambda m, h: m.third(m.batch(h)), "merge a batch norm of Blocks"),
}


@pytest.mark.parametrize("case", UNSEEN)
def test_zennit_is_refused_where_it_does_not_see_the_network(case):
    between, says = UNSEEN[case]
    torch.manual_seed(0)
    modules = {"norm": nn.GroupNorm(2, 4)} if "norm of" in case else {}
    if "computed" in case:
        modules["scaled"] = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))
    if "before" in case:  # in the order of the modules, though not of the calls, the norm stands behind a layer
        modules |= {"third": nn.Conv2d(4, 4, 1), "batch": nn.BatchNorm2d(4)}
    network = Blocks(between, **modules).double()
    calibrated(network, 10)
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(network, X, 1, "zennit:EpsilonPlus")


def test_the_first_layer_is_the_one_that_reads_the_image():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.conv = nn.Linear(4 * 64, 5), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.head(self.conv(x).relu().flatten(1))

    network = calibrated(Backwards(), 10)
    with pytest.raises(rapbench.RapbenchError, match="does not take it for the first layer, which it is"):
        rapbench.attribute(network, X, 1, "zennit:EpsilonPlusFlat")
    same(rapbench.attribute(network, X, 1, "zennit:EpsilonPlus"), rapbench.attribute(network, X, 1, "lrp_epsilon_plus"))


@pytest.mark.parametrize(("name", "options", "says"), [
    ("zennit:EpsilonPlus", {"epsilo": 1.0}, r"no option 'epsilo'.*epsilon, stabilizer, zero_params"),
    ("zennit:Plus", {}, r"unknown method 'zennit:Plus'.*zennit has: EpsilonAlpha2Beta1, "),
    ("zennit:EpsilonGammaBox", {}, "needs low and high, the range of the inputs' values"),
    ("zennit:EpsilonGammaBox", {"low": -3.0}, "needs high, the range"),
])  # fmt: skip
def test_unknown_names_and_missing_bounds_are_named(name, options, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(small(), X, 1, name, **options)


def test_without_zennit_a_line_says_how_to_install_it(monkeypatch):
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.startswith("zennit"):
            raise ModuleNotFoundError(name=name)
        return real(name, *arguments, **keywords)

    monkeypatch.setattr("importlib.import_module", lambda name, *rest: missing(name))
    with pytest.raises(rapbench.RapbenchError, match=r"zennit, which is not installed: pip install zennit"):
        rapbench.attribute(small(), X, 1, "zennit:EpsilonPlus")
