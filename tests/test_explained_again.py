"""Protocols that explain again: nearby inputs, another class, networks with random weights."""

import copy

import captum.metrics
import numpy as np
import pytest
import torch
from quantus.helpers.model.pytorch_model import PyTorchModel
from torch import nn

import rapbench
from rapbench.core.random import random_uniform, seed_of
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.chunk import Chunk
from rapbench.methods import methods
from rapbench.model import Model
from rapbench.model.randomised import Randomised, from_the_logits_down
from rapbench.protocols import protocols
from rapbench.protocols.base.similarity import spearman, ssim

COUNT = 4
AGAIN = [name for name in protocols if protocols[name].function().recomputed()]


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(3), nn.Flatten(), nn.Linear(54, 5),
    ).eval()  # fmt: skip
    net[1].running_mean.uniform_(-1, 1)
    net[1].running_var.uniform_(0.5, 2)
    nn.init.uniform_(net[1].weight, 0.5, 2)
    return net


def images() -> torch.Tensor:
    return torch.randn(COUNT, 2, 9, 10, generator=torch.Generator().manual_seed(1))


class Row:
    def __init__(self, number: int):
        self.file, self.label, self.sha256 = f"{number}.png", number, f"sha of {number}"


def chunk(net: nn.Module | None = None, count: int = COUNT, **more) -> Chunk:
    model = Model(net or network())
    rows = [Row(number) for number in range(count)]
    return Chunk(model, model, 0, 0, rows, images()[:count], seed=3, batch=3, **more)


def table(
    name: str, method: str = "gradient_x_input", net: nn.Module | None = None, made: Chunk | None = None, **options
):
    made = made or chunk(net)
    ((_, columns),) = made.evaluate(Choice(method, methods[method], {}), [Choice(name, protocols[name], options)], None)
    return columns


def heatmaps(net: nn.Module, x: torch.Tensor, labels, method: str = "gradient_x_input") -> torch.Tensor:
    return rapbench.attribute(net, x, labels, method).sum(1)


LABELS = list(range(COUNT))


# Max-sensitivity


def near(x: torch.Tensor, radius: float, draw: int) -> torch.Tensor:
    """The inputs of a draw, as they are defined."""
    moved = []
    for number, image in enumerate(x):
        seed = torch.tensor([seed_of(3, f"sha of {number}", "max_sensitivity", str(draw))])
        noise = random_uniform(seed, image.numel()).view(image.shape)
        moved.append(image + radius * (image.max() - image.min()) * noise)
    return torch.stack(moved)


@pytest.mark.parametrize("method", ["gradient_x_input", "rap", "lrp_a1b0"])
@pytest.mark.parametrize(("radius", "draws"), [(0.02, 10), (0.3, 3)])
def test_max_sensitivity_is_captums_on_the_same_draws(method, radius, draws):
    net, x = network(), images()
    got = table("max_sensitivity", method, net, radius=radius, draws=draws)["max_sensitivity"]
    count = iter(range(draws))

    def perturbed(inputs, *_):
        return (near(x, radius, next(count)),)

    def explained(inputs, *_):
        return (heatmaps(net, *inputs, LABELS, method),)

    want = captum.metrics.sensitivity_max(
        explained, (x,), perturbed, n_perturb_samples=draws, max_examples_per_batch=COUNT
    )
    np.testing.assert_allclose(got, want.numpy(), rtol=1e-5)
    assert (got > 0).all()


def test_max_sensitivity_of_a_linear_model_by_hand():
    """The gradient does not move; gradient times input moves by the weight times the noise."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(180, 5))
    assert table("max_sensitivity", "sensitivity", net)["max_sensitivity"].tolist() == [0] * COUNT
    got = table("max_sensitivity", net=net, draws=1, radius=0.5)["max_sensitivity"]
    x, weight = images(), net[1].weight.detach()[:COUNT].view(COUNT, 2, 9, 10)
    moved, own = (weight * (near(x, 0.5, 0) - x)).sum(1), (weight * x).sum(1)
    np.testing.assert_allclose(got, moved.flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1), rtol=1e-5)


def test_a_control_that_does_not_look_at_the_image_is_as_unstable_as_can_be():
    got = {method: table("max_sensitivity", method)["max_sensitivity"] for method in ("random", "gradient_x_input")}
    assert (got["random"] > 1).all()
    assert (got["random"] > got["gradient_x_input"]).all()


# Random logit


@pytest.mark.parametrize("method", ["gradient_x_input", "rap"])
def test_random_logit_compares_with_the_heatmap_of_a_class_that_is_not_the_label(method):
    net, x = network(), images()
    got = table("random_logit", method, net)
    own = heatmaps(net, x, LABELS, method)
    for row in range(COUNT):
        others = {}
        for other in range(5):
            theirs = heatmaps(net, x[[row]], [other], method)
            others[other] = float(spearman(own[[row]], theirs)), float(ssim(own[[row]], theirs))
        found = [other for other, values in others.items()
                 if values == pytest.approx((got["spearman"][row], got["ssim"][row]), abs=1e-4)]  # fmt: skip
        assert len(found) == 1
        assert found != [row]


def test_every_other_class_is_as_likely():
    from types import SimpleNamespace

    from rapbench.protocols.random_logit import other_classes

    count, classes = 6000, 4
    labels = torch.arange(count) % classes
    seeds = torch.tensor([seed_of(0, number) for number in range(count)])
    given = SimpleNamespace(labels=labels, clean=lambda: torch.zeros(count, classes), seeds=lambda name: seeds)
    drawn = other_classes(given)
    assert ((drawn >= 0) & (drawn < classes)).all()
    steps = torch.bincount((drawn - labels) % classes, minlength=classes)
    assert steps[0] == 0
    assert ((steps[1:] - count / 3).abs() < 4 * (count * 2 / 9) ** 0.5).all()


@pytest.mark.parametrize("name", ["random_logit", "parameter_randomisation"])
@pytest.mark.parametrize("control", ["random", "edge"])
def test_controls_look_neither_at_the_class_nor_at_the_weights(name, control):
    for column in ("spearman", "ssim"):
        np.testing.assert_allclose(table(name, control)[column], 1, rtol=0, atol=1e-9)


# Parameter randomisation


def stages(net: nn.Module, count: int = 4, *, cascading: bool = True, seed: int = 0) -> list[nn.Module]:
    model = Model(net)
    made = Randomised(model, images(), seed)
    return [made.stage(model, number, count, cascading=cascading).network for number in range(1, count + 1)]


def changed(net: nn.Module, other: nn.Module) -> list[str]:
    """Which layers have other weights."""
    mine, theirs = dict(net.named_parameters()), dict(other.named_parameters())
    return sorted({name.rpartition(".")[0] for name in mine if not torch.equal(mine[name], theirs[name])})


def test_layers_become_random_from_the_logits_down():
    net = network()
    assert from_the_logits_down(Model(net), images()) == ["7", "3", "1", "0"]
    assert [changed(net, stage) for stage in stages(net)] == [["7"], ["3", "7"], ["1", "3", "7"], ["0", "1", "3", "7"]]
    assert [changed(net, stage) for stage in stages(net, cascading=False)] == [["7"], ["3"], ["1"], ["0"]]
    assert [changed(net, stage) for stage in stages(net, 2)] == [["3", "7"], ["0", "1", "3", "7"]]
    assert [len(changed(net, stage)) for stage in stages(net, 10)] == [1, 1, 2, 2, 2, 3, 3, 4, 4, 4]


def test_what_stays_trained_is_shared_and_the_network_is_not_touched():
    net = network()
    before = copy.deepcopy(net.state_dict())
    model = Model(net)
    made = Randomised(model, images(), 0)
    first = made.stage(model, 1, 4, cascading=True)
    assert first.network[0].weight is model.network[0].weight
    assert first.network[1].running_var is model.network[1].running_var
    last = made.stage(model, 4, 4, cascading=True)
    assert last.network[7].weight is first.network[7].weight
    for kept in (net, model.network):
        for name, tensor in kept.state_dict().items():
            assert torch.equal(tensor, before[name]), name
    assert last.network[1].running_var.tolist() == [1] * 6
    assert first.weights_sha256 != model.weights_sha256 != last.weights_sha256


def test_random_weights_are_those_of_reset_parameters_and_of_the_seed_alone():
    net = network()
    state = torch.random.get_rng_state()
    last = stages(net)[-1]
    assert torch.equal(torch.random.get_rng_state(), state)
    bound = 1 / 54**0.5  # of a linear layer's uniform weights
    assert 0.9 * bound < last[7].weight.abs().max() <= bound
    again, other = stages(net)[-1], stages(net, seed=1)[-1]
    assert torch.equal(last[7].weight, again[7].weight)
    assert not torch.equal(last[7].weight, other[7].weight)


class Scaled(nn.Module):
    """Weights of its own without `reset_parameters`, and layers that are never called or never were trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.linspace(1, 2, 10))
        self.body = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten())
        self.auxiliary = nn.Linear(3, 3)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.head = nn.Linear(4 * 56, 5)
        self.tied = self.head

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.body[2](self.body[1](self.body[0](x * self.scale)))
        tokens = x.flatten(2).transpose(1, 2)
        return self.tied(self.attention(tokens, tokens, tokens)[0].flatten(1))


def test_layers_of_every_kind():
    torch.manual_seed(0)
    net = Scaled().eval()
    layers = from_the_logits_down(Model(net), images())
    assert layers == ["head", "attention.out_proj", "attention", "body.1", "body.0", ""]
    last = stages(net, len(layers))[-1]
    assert not torch.equal(last.scale, net.scale)
    assert torch.equal(last.scale.sort().values, net.scale)  # permuted
    assert last.head is last.tied
    assert all(isinstance(layer.weight, nn.Parameter) for layer in (net.head, net.tied))
    assert set(changed(net, last)) == {"head", "attention.out_proj", "attention", "body.0", ""}
    assert torch.isfinite(last(images())).all()


@pytest.mark.parametrize("order", ["cascading", "independent"])
@pytest.mark.parametrize("method", ["gradient_x_input", "rap", "smoothgrad"])
def test_similarity_at_each_stage_is_to_the_heatmap_of_that_network(method, order):
    made = chunk()
    got = table("parameter_randomisation", method, made=made, order=order, stages=4)
    ids, more = [row.sha256 for row in made.rows], {"seed": 3}
    own = rapbench.attribute(made.model, images(), LABELS, method, image_ids=ids, **more).sum(1)
    networks = Randomised(made.model, images(), 3)
    for number in range(1, 5):
        network = networks.stage(made.model, number, 4, cascading=order == "cascading")
        theirs = rapbench.attribute(network, images(), LABELS, method, image_ids=ids, **more).sum(1)
        at = got["k"] == str(number)
        np.testing.assert_allclose(got["spearman"][at], spearman(own, theirs), rtol=0, atol=1e-6)
        np.testing.assert_allclose(got["spearman_absolute"][at], spearman(own.abs(), theirs.abs()), rtol=0, atol=1e-6)
        np.testing.assert_allclose(got["ssim"][at], ssim(own, theirs), rtol=0, atol=1e-6)


def test_quantus_randomises_the_same_layers_in_the_same_order():
    net = network()
    theirs = PyTorchModel(net).get_random_layer_generator("top_down", seed=42)
    found = [changed(net, one.get_model() if hasattr(one, "get_model") else one) for _, one in theirs]
    assert found == [changed(net, stage) for stage in stages(net)]


# Of all


@pytest.mark.parametrize("name", AGAIN)
def test_batch_is_singles_and_neither_order_nor_other_methods_matter(name):
    whole = table(name)
    column = protocols[name].function().metrics[0].name
    made = chunk()
    table(name, "random", made=made)
    np.testing.assert_array_equal(table(name, made=made)[column], whole[column])
    single = table(name, made=chunk(count=1))[column]
    np.testing.assert_allclose(single, whole[column][: len(single)], rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", AGAIN)
def test_a_heatmap_of_zeros_has_no_value(name):
    @methods.register("zeros", signs=("positive",), passes=1)
    def zeros(model, inputs, targets):
        return torch.zeros_like(inputs)

    got = table(name, "zeros")
    for metric in protocols[name].function().metrics:
        assert np.isnan(got[metric.name]).all()


@pytest.mark.parametrize("name", AGAIN)
def test_a_method_that_refuses_or_breaks_the_second_time_has_no_value_and_leaves_the_network(name):
    calls = []

    @methods.register("once", signs=("positive",), passes=1)
    def once(model, inputs, targets):
        calls.append(model)
        if len(calls) > 1:
            raise ValueError("not again")
        return inputs

    net = network()
    before = copy.deepcopy(net.state_dict())
    reasons: set[tuple[str, str]] = set()
    made = chunk(net, missed=lambda label, reason: reasons.add((label, reason.partition(" (")[0])))
    got = table(name, "once", made=made)
    assert reasons == {("once", "ValueError: not again")}
    assert np.isnan(got[protocols[name].function().metrics[0].name]).all()
    assert all(torch.equal(tensor, before[key]) for key, tensor in net.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


@pytest.mark.parametrize("name", AGAIN)
def test_every_attribution_is_counted(name):
    seen = []
    made = chunk(attributed=seen.append)
    table(name, made=made)
    again, passes = protocols[name].function().recomputed(), methods["gradient_x_input"].facts.passes
    assert sum(seen) == again * passes * COUNT


def test_ready_made_heatmaps_are_left_out_and_that_is_said():
    maps = {"theirs": torch.randn(COUNT, 9, 10)}
    results = rapbench.evaluate(
        network(), images(), methods=["random"], heatmaps=maps, protocols=["sparseness", *AGAIN]
    )
    found = results.table()
    assert set(found[found["method"] == "theirs"]["protocol"]) == {"sparseness"}
    assert set(found[found["method"] == "random"]["protocol"]) == {"sparseness", *AGAIN}
    header = " ".join(results.runs[0].about["header"])
    assert f"Ready-made, so without {', '.join(AGAIN)}: theirs." in header
