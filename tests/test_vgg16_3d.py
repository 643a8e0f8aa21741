"""VGG-16 in three dimensions: its order of layers, its files, and every method on it."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import vgg16_bn

import rapbench
from rapbench.methods import methods
from rapbench.relevance import Balance
from rapbench.zoo.vgg16_3d import SIDE, Shape, network
from tests.conftest import calibrated
from tests.options import FOR_TRANSFORMERS, QUICK_METHODS

WIDTH = 1 / 16
REFUSED = {
    "pattern_net": "patterns",
    "pattern_attribution": "patterns",
} | dict.fromkeys(FOR_TRANSFORMERS, "vision transformers")


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(0)
    return calibrated(network(Shape.scaled(WIDTH, 16)), SIDE, shape=(1, SIDE, SIDE, SIDE))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(3, 1, SIDE, SIDE, SIDE, dtype=torch.float64, generator=generator)


def kinds(layers) -> list[str]:
    found = [re.sub(r"\dd$", "", type(layer).__name__) for layer in layers]
    return [kind for kind in found if kind not in ("Flatten", "AdaptiveAvgPool")]


def test_the_layers_are_vgg16s_in_its_order_and_at_width_1_of_its_sizes():
    with torch.device("meta"):
        ours, theirs = network(Shape.scaled(1.0)), vgg16_bn()
    layers = [layer for layer in theirs.modules() if not list(layer.children())]
    known = kinds(layers)
    for place in [index for index, kind in enumerate(known) if kind == "Linear"][:2][::-1]:
        known.insert(place + 1, "BatchNorm")  # of the hidden dense layers, in the place of their biases
    assert kinds(ours) == known
    sizes = [[len(layer.weight) for layer in one if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d))]
             for one in (ours, layers)]  # fmt: skip
    assert sizes[0] == [*sizes[1][:-1], 2]
    assert [layer.bias is None for layer in ours if isinstance(layer, (nn.Conv3d, nn.Linear))] == [True] * 15 + [False]


def test_random_weights_are_those_of_the_seed_and_said_to_be_random():
    torch.manual_seed(9)
    before = torch.random.get_rng_state()
    one, again, other = (rapbench.load_model("vgg16_3d", width=WIDTH, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert one.weights_sha256 == again.weights_sha256 != other.weights_sha256
    assert "not trained" in one.facts.source
    assert (one.space, one.channels, one.class_names) == ((32, 32, 32), 1, ("other", "nodule"))
    assert one(torch.rand(2, 1, 32, 32, 32)).shape == (2, 2)


@pytest.mark.parametrize("width", [1 / 16, 0.1])
@pytest.mark.parametrize("wrap", [lambda state: state, lambda state: {f"network.{k}": v for k, v in state.items()}])
def test_a_file_tells_its_widths(width, wrap, tmp_path):
    torch.manual_seed(3)
    made = network(Shape.scaled(width, 24)).eval()
    save_file(wrap(made.state_dict()), tmp_path / "fold.safetensors")
    for given in ({}, {"width": width}, {"dense": 24}):
        model = rapbench.load_model("vgg16_3d", path=str(tmp_path / "fold.safetensors"), **given)
        x = torch.rand(2, 1, 32, 32, 32)
        torch.testing.assert_close(model(x), made(x))
    assert model.facts.source.startswith("fold.safetensors (SHA-256 ")


@pytest.mark.parametrize(("options", "says"), [
    ({"width": 0.5}, r"has \(4, 8, 16, 32, 32\) channels, by model.width=0.5 they would be \(32, "),
    ({"dense": 9}, "has dense layers of width 24, not 9"),
    ({"width": 0.0}, "model.width=0.0 must be above 0"),
    ({"dropout": 1.0}, "model.dropout=1.0 must be at least 0 and below 1"),
    ({"dense": 0}, "model.dense=0 must be in 1"),
    ({"path": "none.safetensors"}, "none.safetensors is not a file"),
    ({"path": "other.safetensors"}, "there is no 3.weight of 5 dimensions; is it a file of vgg16_3d"),
    ({"path": "cut.safetensors"}, "not a safetensors file, or is cut short"),
    ({"path": "nan.safetensors"}, "0.weight holds NaN"),
    ({"path": "less.safetensors"}, "lacks 1.running_var"),
    ({"path": "odd.safetensors"}, r"0.weight has shape \(5, 1, 3, 3, 3\)"),
])  # fmt: skip
def test_what_does_not_fit_is_one_line(options, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = network(Shape.scaled(1 / 16, 24)).state_dict()
    save_file(state, "fold.safetensors")
    save_file({"0.weight": torch.zeros(4, 1, 3, 3, 3)}, "other.safetensors")
    save_file(state | {"0.weight": state["0.weight"] * float("nan")}, "nan.safetensors")
    save_file({name: tensor for name, tensor in state.items() if name != "1.running_var"}, "less.safetensors")
    save_file(state | {"0.weight": torch.zeros(5, 1, 3, 3, 3)}, "odd.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "fold.safetensors").read_bytes()[:5000])
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        rapbench.load_model("vgg16_3d", **({"path": "fold.safetensors"} | options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["rap", "rap_aaai"])
def test_relevance_is_conserved_in_every_layer(module, x, method):
    entries: list[Balance] = []
    relevance = rapbench.attribute(module, x, 1, method, balance=entries)
    assert (relevance.abs().flatten(1).sum(1) > 0).all()
    for entry in entries:
        error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
        assert (error <= 1e-9 * (1 + entry.total)).all(), f"{entry.place}, {entry.flow}: {error}"
    dropped = sum(entry.dropped for entry in entries)
    whole = torch.zeros(len(x)).double() if method == "rap" else module(x)[:, 1].detach()
    scale = sum(entry.total for entry in entries) / len(entries) + relevance.abs().flatten(1).sum(1)
    assert ((relevance.flatten(1).sum(1) + dropped - whole).abs() <= 1e-9 * scale).all()


@pytest.mark.parametrize("method", ["lrp_a1b0", "lrp_a2b1"])
def test_lrp_without_biases_conserves(module, x, method):
    relevance = rapbench.attribute(module, x, 1, method, bias="ignored")
    scale = relevance.abs().flatten(1).sum(1)
    assert ((relevance.flatten(1).sum(1) - module(x)[:, 1]).abs() < 1e-4 * scale).all()


@pytest.mark.parametrize("method", list(methods))
def test_a_method_works_and_a_batch_is_its_inputs_or_it_is_refused_by_name(module, x, method):
    model, images, options = rapbench.Model(module, size=[SIDE] * 3), x.float(), QUICK_METHODS.get(method, {})
    if method in REFUSED:
        with pytest.raises(rapbench.RapbenchError, match=REFUSED[method]):
            rapbench.attribute(model, images, [1, 0, 1], method, **options)
        return
    together = rapbench.attribute(model, images, [1, 0, 1], method, **options)
    assert together.shape == images.shape
    assert together.isfinite().all()
    alone = rapbench.attribute(model, images[1:2], [0], method, **options)
    assert (alone[0] - together[1]).abs().max() <= 1e-3 * together[1].abs().max()
