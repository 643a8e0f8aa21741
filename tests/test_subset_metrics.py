"""Faithfulness by random subsets and by noise, and the shape of maps: by hand, against peers, and what holds always."""

import itertools
import math

import captum.metrics
import numpy as np
import pytest
import quantus
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rapbench
from rapbench.evaluation.answers import table_of
from rapbench.protocols.base import random_subsets as subsets_file
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.random_subsets import random_subsets
from rapbench.protocols.base.similarity import pearson
from rapbench.protocols.complexity import Complexity
from rapbench.protocols.faithfulness_correlation import FaithfulnessCorrelation
from rapbench.protocols.infidelity import Infidelity
from rapbench.protocols.sensitivity_n import SensitivityN
from rapbench.protocols.sparseness import Sparseness

SUBSETS = {
    "sensitivity_n": SensitivityN(sizes=[1, 3, "50%"], draws=20),
    "faithfulness_correlation": FaithfulnessCorrelation(size=5, draws=20),
}
ASKING = SUBSETS | {"infidelity": Infidelity(draws=20)}
SHAPES = {"sparseness": Sparseness(), "complexity": Complexity()}
EVERY = ASKING | SHAPES
SPACES = [(9,), (5, 6), (3, 4, 2)]


class Linear(nn.Module):
    """Logits w.x + b of each class in float64, each input alone, so that no answer depends on the batch."""

    def __init__(self, shape: tuple[int, ...], classes: int = 3):
        super().__init__()
        generator = torch.Generator().manual_seed(7)
        self.weight = torch.randn(classes, math.prod(shape), generator=generator, dtype=torch.float64)
        self.asked = 0

    def forward(self, inputs: Tensor) -> Tensor:
        self.asked += len(inputs)
        flat = inputs.flatten(1).double()
        return torch.stack([self.answer(self.weight @ one) for one in flat])

    def answer(self, logits: Tensor) -> Tensor:
        return logits + 1


class Curved(Linear):
    def answer(self, logits: Tensor) -> Tensor:
        return logits.tanh() * 3 + logits.square() / 10


def case(space: tuple[int, ...] = (5, 6), count: int = 5, channels: int = 2, model=Curved) -> tuple[Linear, Batch]:
    generator = torch.Generator().manual_seed(math.prod(space))
    inputs = torch.randn(count, channels, *space, generator=generator)
    heatmaps = torch.randn(count, *space, generator=generator).mul(3).round().div(4)  # with ties and zeros
    network = model((channels, *space))
    return network, of(network, inputs, torch.arange(count) % 3, heatmaps)


def of(network, inputs, labels, heatmaps, rows=None, seed=3, **more) -> Batch:
    rows = list(range(len(inputs))) if rows is None else rows
    inputs, labels, heatmaps = inputs[rows], labels[rows], heatmaps[rows]
    clean = network(inputs)
    if isinstance(network, Linear):
        network.asked = 0
    ids = [f"image {row}" for row in rows]
    return Batch(inputs, labels, heatmaps, network, lambda: clean, ids, seed, **more)


def values(protocol, batch: Batch) -> np.ndarray:
    """All numbers of a protocol, (N, steps)."""
    table = table_of(batch, protocol, protocol.variants(("positive", "negative")))
    return table[protocol.metrics[0].name].reshape(len(batch.labels), -1)


def members(batch: Batch, sizes: list[int], draws: int) -> np.ndarray:
    """Whether a pixel is in a subset, (N, sizes, draws, n)."""
    first = random_subsets(batch, sizes, draws).first.numpy()
    return first[:, None] <= np.arange(len(sizes))[None, :, None, None]


def slow_correlation(batch: Batch, network: Linear, sizes: list[int], draws: int) -> np.ndarray:
    """The definition, subset by subset, in float64, with scipy's loop written out."""
    found = np.empty((len(batch.labels), len(sizes)))
    there = members(batch, sizes, draws)
    for row, place in np.ndindex(*found.shape):
        told, lost = [], []
        for subset in there[row, place]:
            told.append(
                math.fsum(r for r, inside in zip(batch.heatmaps[row].flatten().tolist(), subset, strict=True) if inside)
            )
            changed = batch.inputs[row].flatten(1).clone()
            changed[:, torch.from_numpy(subset)] = 0
            logits = network(torch.stack([batch.inputs[row].flatten(1), changed]))[:, batch.labels[row]]
            lost.append(float(logits[0] - logits[1]))
        found[row, place] = np.corrcoef(told, lost)[0, 1]
    return found


# The subsets


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_subsets_have_their_sizes_and_their_own_seeds(space):
    _, batch = case(space)
    sizes = [1, 2, 5]
    there = members(batch, sizes, 30)
    assert (there.sum(-1) == np.array(sizes)[None, :, None]).all()
    assert (there[:, 0] <= there[:, 1]).all()
    assert (there[:, 1] <= there[:, 2]).all()
    assert len({subset.tobytes() for subset in there[:, 2].reshape(-1, there.shape[-1])}) > 75  # of 150
    np.testing.assert_array_equal(members(batch, sizes, 10), there[:, :, :10])
    np.testing.assert_array_equal(members(batch, [5], 30)[:, 0], there[:, 2])
    network = Curved((2, *space))
    turned = of(network, batch.inputs, batch.labels, batch.heatmaps, [3, 1])
    np.testing.assert_array_equal(members(turned, sizes, 30), there[[3, 1]])
    other = of(network, batch.inputs, batch.labels, batch.heatmaps, seed=4)
    assert (members(other, sizes, 30) != there).any()


def test_all_pixels_are_drawn_equally_often():
    _, batch = case((30,), count=10)
    often = members(batch, [3], 1000)[:, 0].mean((0, 1))
    assert np.abs(often - 0.1).max() < 4 * math.sqrt(0.1 * 0.9 / 10000)


def test_the_blocks_in_which_subsets_are_computed_do_not_matter(monkeypatch):
    network, batch = case()
    whole = {name: values(protocol, batch) for name, protocol in ASKING.items()}
    monkeypatch.setattr(subsets_file, "BLOCK", 65)  # two rows of 30 pixels
    again = of(network, batch.inputs, batch.labels, batch.heatmaps)
    for name, protocol in ASKING.items():
        np.testing.assert_allclose(values(protocol, again), whole[name], rtol=1e-12)


# By hand


def test_a_correlation_by_hand():
    """Four pixels 1 2 3 4, f = x_0 + 2 x_1 + 3 x_2 + 4 x_3, so that pixel i loses 1, 4, 9, 16; R = 1 0 0 1."""
    inputs = torch.tensor([[[1.0, 2, 3, 4]]])
    network = lambda x: (x.flatten(1) * torch.tensor([1.0, 2, 3, 4])).sum(1, keepdim=True)  # noqa: E731
    batch = of(network, inputs, torch.tensor([0]), torch.tensor([[1.0, 0, 0, 1]]))
    drawn = members(batch, [1], 50)[0, 0].argmax(-1)
    counts = np.bincount(drawn, minlength=4)
    lost, told = np.array([1, 4, 9, 16.0]), np.array([1, 0, 0, 1.0])
    mean = [(counts * these).sum() / 50 for these in (lost, told)]
    lost, told = lost - mean[0], told - mean[1]
    both, one, other = ((counts * a * b).sum() / 50 for a, b in ((lost, told), (lost, lost), (told, told)))
    want = both / math.sqrt(one * other)
    assert values(FaithfulnessCorrelation(size=1, draws=50), batch).item() == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_correlations_are_as_written_out(space):
    network, batch = case(space)
    sizes = [1, 3, round(math.prod(space) / 2)]
    want = slow_correlation(batch, network, sizes, 20)
    assert np.isfinite(want).all()
    np.testing.assert_allclose(values(SUBSETS["sensitivity_n"], batch), want, rtol=1e-9)
    want = slow_correlation(batch, network, [5], 20)
    np.testing.assert_allclose(values(SUBSETS["faithfulness_correlation"], batch), want, rtol=1e-9)


@pytest.mark.parametrize(("heatmap", "gini", "entropy"), [
    ([1.0, -1, 1, -1], 0, math.log(4)),
    ([0.0, 0, 0, -5], 3 / 4, 0),
    ([1.0, 2, -3, 4], (-3 * 1 - 2 + 3 + 3 * 4) / (4 * 10), -sum(i / 10 * math.log(i / 10) for i in (1, 2, 3, 4))),
    ([3.0, 0, 1], (2 * 3) / (3 * 4), -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))),
    ([-2.0], 0, 0),
    ([0.0, 0], math.nan, math.nan),
])  # fmt: skip
def test_shapes_by_hand(heatmap, gini, entropy):
    maps = torch.tensor([heatmap])
    batch = of(lambda x: x.flatten(1), maps[:, None], torch.tensor([0]), maps)
    for protocol, want in ((Sparseness(), gini), (Complexity(), entropy)):
        np.testing.assert_allclose(values(protocol, batch).item(), want, rtol=1e-14, atol=1e-16)


def test_the_infidelity_of_a_map_by_hand():
    """f = x_0 + 3 x_1 and R = (1, 1): with u = I_0 + I_1, v = I_0 + 3 I_1 the least mean of (beta u - v)^2."""
    inputs = torch.tensor([[[0.0, 2.0]]])
    network = lambda x: (x.flatten(1).double() * torch.tensor([1.0, 3])).sum(1, keepdim=True)  # noqa: E731
    batch = of(network, inputs, torch.tensor([0]), torch.ones(1, 2))
    protocol = Infidelity(draws=1000)
    index = torch.arange(2000).view(1000, 2)
    noise = protocol.perturbations(batch, torch.zeros(1000, dtype=torch.int64), index).double().numpy()
    assert noise.std() == pytest.approx(0.4, rel=0.05)  # 0.2 of a range of 2
    assert abs(noise.mean()) < 0.04
    u, v = noise.sum(1), noise @ [1, 3]
    residual = np.linalg.lstsq(u[:, None], v, rcond=None)[1][0] / 1000
    assert values(protocol, batch).item() == pytest.approx(residual, rel=1e-5)
    assert residual == pytest.approx(2 * 0.4**2, rel=0.1)  # E v^2 - (E uv)^2 / E u^2 = (10 - 16 / 2) sd^2


# Of a linear model all is known


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_a_linear_models_own_relevance_is_faithful(space):
    network, batch = case(space, model=Linear)
    weights = network.weight[batch.labels].view(batch.inputs.shape)
    exact = of(network, batch.inputs, batch.labels, (weights * batch.inputs).sum(1))
    for protocol in SUBSETS.values():
        np.testing.assert_allclose(values(protocol, exact), 1, rtol=1e-9)
        against = of(network, batch.inputs, batch.labels, -exact.heatmaps)
        np.testing.assert_allclose(values(protocol, against), -1, rtol=1e-9)
    gradient = of(network, batch.inputs, batch.labels, weights.sum(1))
    drops = values(ASKING["infidelity"], batch)
    assert (values(ASKING["infidelity"], gradient) < 1e-10).all()  # x - I is rounded to float32
    assert (drops > 1e-3).all()


# What holds always


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.integers(0, 1000), exponent=st.integers(-60, 60), factor=st.floats(0.1, 10))
@settings(max_examples=15, deadline=None)
def test_the_scale_of_a_heatmap_does_not_matter(name, seed, exponent, factor):
    network, batch = case()
    heatmaps = torch.randn(batch.heatmaps.shape, generator=torch.Generator().manual_seed(seed))
    found, doubled, scaled = (
        values(EVERY[name], of(network, batch.inputs, batch.labels, maps))
        for maps in (heatmaps, heatmaps * 2.0**exponent, heatmaps.double() * factor)
    )
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(doubled, found)
    np.testing.assert_allclose(scaled, found, rtol=1e-9, atol=1e-12)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_shapes_are_within_their_bounds_and_order_and_sign_do_not_matter(numbers):
    maps = torch.tensor([numbers, numbers[::-1], [-number for number in numbers]])
    batch = of(lambda x: x.flatten(1), maps[:, None], torch.zeros(3, dtype=torch.int64), maps)
    for protocol, most in ((Sparseness(), 1 - 1 / len(numbers)), (Complexity(), math.log(len(numbers)))):
        found = values(protocol, batch)
        if any(numbers):
            assert (found >= 0).all()
            assert (found <= most + 1e-12).all()
        else:
            assert np.isnan(found).all()
        assert len(set(found[:, 0].tolist())) == 1 or np.isnan(found).all()


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_neither_the_batch_nor_the_order_nor_the_method_before_matters(name, space):
    network, batch = case(space)
    protocol, given_ = EVERY[name], (network, batch.inputs, batch.labels, batch.heatmaps)
    found = values(protocol, batch)
    alone = np.concatenate([values(protocol, of(*given_, [row])) for row in range(5)])
    np.testing.assert_array_equal(alone, found)
    order = [4, 0, 3, 1, 2]
    np.testing.assert_array_equal(values(protocol, of(*given_, order, size=3)), found[order])
    first = of(network, batch.inputs, batch.labels, batch.heatmaps.flip(0))
    values(protocol, first)
    np.testing.assert_array_equal(values(protocol, of(*given_, shared=first.shared)), found)


@pytest.mark.parametrize("name", ASKING)
def test_the_model_is_asked_once_for_all_methods(name):
    network, batch = case()
    protocol, shared = ASKING[name], {}
    for maps in (batch.heatmaps, -batch.heatmaps, batch.heatmaps.square()):
        again = of(network, batch.inputs, batch.labels, maps)
        again.shared = shared
        before, network.asked = network.asked, 0
        values(protocol, again)
        first = not before and maps is batch.heatmaps
        assert network.asked == (5 * protocol.asked_once() if first else 0)
        network.asked = 1
    assert protocol.asked(("positive", "negative")) == 0
    assert all(protocol.asked_once() == 0 for protocol in SHAPES.values())


@pytest.mark.parametrize("name", ASKING)
def test_other_settings_are_other_questions(name):
    """What is asked is kept under all that it depends on."""
    network, batch = case()
    shared: dict = {}

    def found(protocol, **more) -> bytes:
        return values(
            protocol, of(network, batch.inputs, batch.labels, batch.heatmaps, shared=shared, **more)
        ).tobytes()

    made = type(ASKING[name])
    options = {"sensitivity_n": [{"sizes": [1, 3]}, {"sizes": [2, 3]}, {"sizes": [1, 3], "draws": 20}],
               "faithfulness_correlation": [{"size": 5}, {"size": 6}, {"size": 5, "draws": 20}],
               "infidelity": [{}, {"noise": 0.1}, {"draws": 20}]}[name]  # fmt: skip
    if name != "infidelity":
        options += [options[0] | {"fill": fill} for fill in ("mean", "blur", "image_min")]
    options.append(options[0] | {"output": "probability"})
    results = [found(made(**more)) for more in options] + [found(made(**options[0]), seed=4)]
    assert len(set(results)) == len(results)
    shared.clear()
    assert found(made(**options[-1])) == results[len(options) - 1]


@pytest.mark.parametrize("name", EVERY)
def test_what_is_not_defined_is_nan_and_what_is_one_signed_is_not(name):
    network, batch = case(count=6)
    maps = batch.heatmaps.clone()
    maps[0], maps[1], maps[2], maps[3] = 0, 0.1, maps[2].abs(), -maps[3].abs()
    found = np.isnan(values(EVERY[name], of(network, batch.inputs, batch.labels, maps))).all(1)
    assert found.tolist() == [True, name in SUBSETS, False, False, False, False]
    for protocol in ASKING.values():  # a model that is indifferent
        constant = of(lambda x: torch.ones(len(x), 3), batch.inputs, batch.labels, maps)
        undefined = np.isnan(values(protocol, constant))
        assert undefined.all() or not isinstance(protocol, FaithfulnessCorrelation | SensitivityN)


def test_a_rounded_mean_does_not_make_a_constant_row_vary():
    one = torch.full((1, 10), 0.1, dtype=torch.float64)
    assert pearson(one, torch.arange(10)[None]).isnan().all()
    assert pearson(torch.arange(10)[None], one).isnan().all()


def test_one_size_without_a_correlation_leaves_no_mean():
    curves = {"correlation": np.array([[0.5, 0.1], [math.nan, 1]])}
    np.testing.assert_array_equal(SensitivityN().summary(curves, ["1", "2"])["sensitivity_n"], [0.3, math.nan])


# Sizes


def test_the_default_sizes_ascend_by_equal_ratios_to_four_fifths():
    sizes = SensitivityN().numbers(224 * 224)
    assert (sizes[0], sizes[-1]) == (1, 40141)
    ratios = np.diff(np.log(sizes))
    assert np.abs(ratios - ratios.mean()).max() < 0.2  # small numbers are rounded
    assert SensitivityN().fitted((224, 224)) == {}
    assert SensitivityN().fitted((32, 32)) == {"sizes": [1, "0.22%", "0.72%", "2.3%", "7.6%", "25%", "80%"]}
    for space in itertools.product((1, 2, 5, 12, 33), (3, 7)):
        protocol = SensitivityN(**SensitivityN().fitted(space))
        protocol.check(space)
    assert SensitivityN(sizes=[1, 9000]).fitted((3, 3)) == {}


@pytest.mark.parametrize(("sizes", "says"), [
    ([0, 1], "at least 1 pixel"), ([1, "all"], "less than all"), (["100%"], "less than all"), ([2, 1], "must ascend"),
    ([], "must ascend"), (["x"], "whole numbers"), (list(range(1, 102)), "up to 100"),
])  # fmt: skip
def test_sizes_that_make_no_sense_are_one_line(sizes, says):
    with pytest.raises(rapbench.RapbenchError, match=says) as error:
        SensitivityN(sizes=sizes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("protocol", [
    SensitivityN(sizes=[1, 30]), SensitivityN(sizes=["1%"]), SensitivityN(sizes=[8, "25%"]), FaithfulnessCorrelation(),
], ids=str)  # fmt: skip
def test_sizes_that_an_input_has_no_room_for_are_refused(protocol):
    with pytest.raises(rapbench.RapbenchError, match=r"must ascend from 1 to less than all pixels, got .* of 5 x 6"):
        protocol.check((5, 6))
    with pytest.raises(rapbench.RapbenchError):
        values(protocol, case()[1])


def test_a_run_has_them_all_and_counts_what_is_not_defined(tmp_path):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3))
    inputs = torch.randn(6, 1, 12, 13)

    def zero_first(model, images, targets):
        relevance = images * images
        relevance[(images - inputs[0]).flatten(1).abs().amax(1) == 0] = 0
        return relevance

    asked = ["sensitivity_n", ("faithfulness_correlation", {"size": 20}), *("infidelity", "sparseness", "complexity")]
    results = rapbench.evaluate(network, inputs, methods={"zero": zero_first, "random": "random"}, protocols=asked,
                                gallery=0)  # fmt: skip
    results.save(tmp_path)
    table = results.table().set_index(["method", "metric", "k"])["n"]
    for name in EVERY:
        assert (table["zero", name, ""], table["random", name, ""]) == (5, 6)
    steps = results.frame[results.frame["metric"] == "correlation"]["k"]
    assert list(dict.fromkeys(steps)) == ["1", "2.3%", "7.6%", "25%", "80%"]
    better = results.table().set_index("metric")["better"].to_dict()
    assert {name: better[name] for name in EVERY} == {
        "sensitivity_n": "higher", "faithfulness_correlation": "higher", "infidelity": "lower", "sparseness": "higher",
        "complexity": "lower",
    }  # fmt: skip


# Peers, with their settings made equal


def test_infidelity_is_captums():
    network, batch = case((6, 7), model=Curved)
    protocol = Infidelity(draws=30)
    found, pixels = values(protocol, batch), 42

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        rows = torch.arange(len(batch.labels)).repeat_interleave(30)
        assert torch.equal(inputs, batch.inputs[rows])
        index = torch.arange(30)[:, None] * pixels + torch.arange(pixels)
        noise = protocol.perturbations(batch, rows, index.repeat(5, 1)).view(-1, 1, 6, 7).expand_as(inputs)
        return noise.double(), inputs - noise

    relevance = batch.heatmaps[:, None].double().expand_as(batch.inputs).clone()
    relevance[:, 1] = 0  # summed over channels it is the heatmap
    want = captum.metrics.infidelity(network, perturb, batch.inputs, relevance, target=batch.labels,
                                     n_perturb_samples=30, normalize=True)  # fmt: skip
    np.testing.assert_allclose(found[:, 0], want, rtol=1e-8)
    plain = captum.metrics.infidelity(network, perturb, batch.inputs, relevance, target=batch.labels,
                                      n_perturb_samples=30, normalize=False)  # fmt: skip
    assert (found[:, 0] <= plain.numpy()).all()  # no scaling is better than the optimal one


class Module(nn.Module):
    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x).float()


QUIET = {"disable_warnings": True, "display_progressbar": False, "return_aggregate": False, "normalise": False}


def asked_of_quantus(metric, network, batch: Batch) -> list[float]:
    return metric(model=Module(network).eval(), x_batch=batch.inputs.numpy(), y_batch=batch.labels.numpy(),
                  a_batch=batch.heatmaps[:, None].numpy().copy(), softmax=False, channel_first=True)  # fmt: skip


@pytest.mark.parametrize(("fill", "baseline"), [("zero", 0.0), ("image_min", "black")])
def test_faithfulness_correlation_is_quantus_for_one_channel(fill, baseline, monkeypatch):
    """What Quantus calls black, its default, is the image's least value."""
    network, batch = case(channels=1)
    there = members(batch, [5], 20)[:, 0]
    draws = iter(there.transpose(1, 0, 2).reshape(-1, 30))  # draw by draw, input by input
    monkeypatch.setattr(np.random, "choice", lambda pixels, size, replace: np.flatnonzero(next(draws)))
    metric = quantus.FaithfulnessCorrelation(nr_runs=20, subset_size=5, perturb_baseline=baseline, abs=False, **QUIET)
    want = asked_of_quantus(metric, network, batch)
    found = values(FaithfulnessCorrelation(size=5, draws=20, fill=fill), batch)
    np.testing.assert_allclose(found[:, 0], want, rtol=1e-4)


def test_quantus_sensitivity_n_correlates_over_images_and_does_not_draw():
    """Two images with an exact map each: every subset of one image is told exactly, Quantus' number is another."""
    inputs = torch.tensor([[[[1.0, 2, 3, 4]]], [[[4.0, 3, 2, 9]]]])
    network = Linear((1, 1, 4))
    labels = torch.tensor([0, 1])
    maps = (network.weight[labels].view(2, 1, 1, 4) * inputs).sum(1).float()
    batch = of(network, inputs, labels, maps)
    np.testing.assert_allclose(values(SensitivityN(sizes=[1, 2, 3], draws=50), batch), 1, rtol=1e-6)
    metric = quantus.SensitivityN(n_max_percentage=0.8, features_in_step=1, abs=False, perturb_baseline=0.0, **QUIET)
    found = np.array(asked_of_quantus(metric, network, batch))
    assert found.shape == (3,)  # one number a size, over the images of a batch; none for an image
    assert found.min() < -0.99  # against 1 for relevance that is exact


def test_complexity_is_quantus():
    network, batch = case()
    metric = quantus.Complexity(abs=True, **QUIET | {"normalise": False})
    want = asked_of_quantus(metric, network, batch)
    np.testing.assert_allclose(values(Complexity(), batch)[:, 0], want, rtol=1e-5)


def test_sparseness_is_quantus_but_for_what_it_adds():
    """Quantus adds 1e-7 to each value: 0.75 becomes 0.25 for a map of 1e-7 and zeros, where by hand it is 0.75."""
    network, batch = case()
    metric = quantus.Sparseness(abs=True, **QUIET)
    np.testing.assert_allclose(values(Sparseness(), batch)[:, 0], asked_of_quantus(metric, network, batch), rtol=1e-5)
    maps = torch.tensor([[[0.0, 0, 0, 1e-7]]])
    small = of(Curved((1, 1, 4)), torch.ones(1, 1, 1, 4), torch.tensor([0]), maps)
    assert values(Sparseness(), small).item() == pytest.approx(0.75)
    peer = quantus.Sparseness(abs=True, **QUIET)
    assert asked_of_quantus(peer, Curved((1, 1, 4)), small)[0] == pytest.approx(0.15, rel=1e-4)
