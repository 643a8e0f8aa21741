"""Deletion, insertion and the symmetric relevance gain: by hand, as loops in float64, and what must hold of them."""

import numpy as np
import pytest
import quantus
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms.functional import gaussian_blur

import rapbench
from rapbench.core.errors import RapbenchError
from rapbench.evaluation.answers import table_of
from rapbench.protocols.abpc import Abpc
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.whole_fills import replaced
from rapbench.protocols.deletion import Deletion
from rapbench.protocols.insertion import Insertion
from rapbench.protocols.regions import RegionPerturbation
from rapbench.protocols.srg import SymmetricRelevanceGain

MOMENTS = torch.tensor([0.4, 0.5]), torch.tensor([0.2, 0.25])
FILLS = ("zero", "mean", "blur", "uniform", "image_min", "channel_min", "pixel_space_min")


class Counted(nn.Module):
    """A curved network in float64 that counts what it is asked; each input alone, so that no batch moves a bit."""

    def __init__(self, size: int):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = torch.randn(4, size, generator=generator, dtype=torch.float64) / size**0.5
        self.asked = 0

    def forward(self, inputs):
        self.asked += len(inputs)
        return torch.stack([(self.weight @ one).sin() * 3 for one in inputs.flatten(1).double()])


def case(space=(6, 7), count=5, size=4, net=None):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 2, *space, generator=generator)
    heatmaps = torch.randn(count, *space, generator=generator).mul(3).round()  # with ties, of both signs
    net = net or Counted(images[0].numel())
    labels = torch.arange(count) % 4
    ids = [f"image {row}" for row in range(count)]
    return net, Batch(images, labels, heatmaps, net, lambda: net(images), ids, 0, MOMENTS, size)


def curve(net, given, row, filled, order, steps, output, insert=False):
    """The output after each step, one image at a time."""
    heat = given.heatmaps[row].flatten()
    ranked = sorted(range(len(heat)), key=lambda at: (-heat[at] if order == "most" else heat[at], at))
    found = []
    for step in range(steps + 1):
        first = ranked[: round(len(heat) * step / steps)]
        image = (filled if insert else given.inputs[row]).clone().flatten(1)
        image[:, first] = (given.inputs[row] if insert else filled).flatten(1)[:, first]
        logits = net(image.view(1, *given.inputs.shape[1:]))[0]
        found.append(float((logits.softmax(0) if output == "probability" else logits)[given.labels[row]]))
    return np.array(found)


def area(values):
    return (values[:-1] + values[1:]).sum() / 2 / (len(values) - 1)


@pytest.mark.parametrize(("fill", "output", "steps"), [
    *((fill, "probability", 5) for fill in FILLS), ("mean", "logit", 42), ("zero", "logit", 100),
])  # fmt: skip
@pytest.mark.parametrize("space", [(6, 7), (20,), (3, 4, 3)], ids=str)
def test_deletion_and_srg_are_as_written_out(space, fill, output, steps):
    net, given = case(space)
    options = {"fill": fill, "output": output, "steps": steps}
    deletion, srg = Deletion(**options), SymmetricRelevanceGain(**options)
    table = table_of(given, deletion, deletion.variants(("positive",)))
    gains = table_of(given, srg, srg.variants(("positive",)))["srg"]
    filled = replaced(given.inputs, fill, given.seeds("pixels"), normalisation=MOMENTS).expand_as(given.inputs)
    curves = table[output].reshape(5, steps + 1)
    shares = [repr(step / steps) for step in range(steps + 1)]
    assert table["k"].tolist() == shares * 5
    areas = deletion.summary({output: curves}, shares)["auc"]
    for row in range(5):
        most, least = (curve(net, given, row, filled[row], order, steps, output) for order in ("most", "least"))
        np.testing.assert_allclose(curves[row], most, rtol=0, atol=1e-6)
        assert areas[row] == pytest.approx(area(most), abs=1e-6)
        assert gains[row] == pytest.approx(area(least) - area(most), abs=1e-6)


@pytest.mark.parametrize(("kernel", "sigma", "steps"), [(11, 5.0, 100), (3, 0.7, 7)])
def test_insertion_is_as_written_out_on_torchvisions_blur(kernel, sigma, steps):
    net, given = case((12, 14))
    insertion = Insertion(kernel=kernel, sigma=sigma, steps=steps)
    table = table_of(given, insertion, insertion.variants(("positive",)))
    blurred = gaussian_blur(given.inputs, [kernel, kernel], [sigma, sigma])
    for row in range(5):
        want = curve(net, given, row, blurred[row], "most", steps, "probability", insert=True)
        np.testing.assert_allclose(table["probability"].reshape(5, -1)[row], want, rtol=0, atol=1e-5)


def test_a_linear_model_by_hand():
    """Four pixels with contributions 4, 3, 2, -1 to the logit, ranked rightly; zero takes each contribution away."""
    images = torch.tensor([[[4.0, 3.0, 2.0, -1.0]]])
    net = nn.Linear(4, 2, bias=False)
    net.weight.data = torch.tensor([[1.0, 1, 1, 1], [0, 0, 0, 0]])
    network = nn.Sequential(nn.Flatten(), net)
    given = Batch(images, torch.tensor([0]), images[:, 0], network, lambda: network(images), ["a"])
    deletion = Deletion(steps=4, output="logit")
    table = table_of(given, deletion, deletion.variants(("positive",)))
    assert table["logit"].tolist() == [8, 4, 1, -1, 0]
    assert deletion.summary({"logit": table["logit"][None]}, ["0", "0.25", "0.5", "0.75", "1"])["auc"] == 2
    # The least relevant first: 8, 9, 7, 4, 0, of area 6.
    srg = SymmetricRelevanceGain(steps=4, fill="zero")
    assert table_of(given, srg, srg.variants(()))["srg"].tolist() == [6 - 2]


def test_pixel_flipping_is_quantus():
    """Quantus leaves the unchanged image out of its curve, and replaces one channel of a pixel after the other."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 16, 4)).eval()
    _, given = case((6, 6), net=net)
    given.heatmaps = torch.randn(5, 6, 6, generator=torch.Generator().manual_seed(3))  # Quantus ranks ties as it likes
    theirs = quantus.PixelFlipping(features_in_step=6, perturb_baseline=0.0, disable_warnings=True, normalise=False,
                                   abs=False, display_progressbar=False)  # fmt: skip
    channels = given.heatmaps[:, None].expand(-1, 2, -1, -1).numpy()
    want = theirs(model=net, x_batch=given.inputs.numpy(), y_batch=given.labels.numpy(), a_batch=channels[:, :1],
                  softmax=True, device="cpu")  # fmt: skip
    deletion = Deletion(steps=6)
    with torch.no_grad():
        table = table_of(given, deletion, deletion.variants(("positive",)))
    np.testing.assert_allclose(table["probability"].reshape(5, 7)[:, 1:], np.array(want)[:, 1::2], rtol=0, atol=1e-6)


@given(st.floats(1e-3, 1e3), st.integers(0, 30))
@settings(max_examples=20, deadline=None)
def test_only_the_order_of_relevance_counts(scale, seed):
    _, given = case()
    given.heatmaps = torch.randn(5, 6, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    want = {
        kind: table_of(given, kind(), kind().variants(())) for kind in (Deletion, Insertion, SymmetricRelevanceGain)
    }
    _, other = case()
    other.heatmaps = (given.heatmaps * scale).asinh()
    for kind, table in want.items():
        for column, values in table_of(other, kind(), kind().variants(())).items():
            np.testing.assert_array_equal(values, table[column])


@pytest.mark.parametrize("heatmap", ["zeros", "constant", "positive", "negative"])
def test_a_constant_map_is_ranked_by_position_and_one_sign_is_enough(heatmap):
    net, given = case()
    given.heatmaps = {"zeros": torch.zeros(5, 6, 7), "constant": torch.ones(5, 6, 7),
                      "positive": given.heatmaps.abs(), "negative": -given.heatmaps.abs()}[heatmap]  # fmt: skip
    for kind in (Deletion, Insertion, SymmetricRelevanceGain):
        table = table_of(given, kind(steps=6), kind(steps=6).variants(("positive",)))
        assert np.isfinite(table[kind(steps=6).metrics[0].name]).all()
    filled = torch.zeros_like(given.inputs)
    deletion = table_of(given, Deletion(steps=6), Deletion(steps=6).variants(()))["probability"].reshape(5, 7)
    np.testing.assert_allclose(deletion[2], curve(net, given, 2, filled[2], "most", 6, "probability"), atol=1e-6)


@pytest.mark.parametrize("kind", [Deletion, Insertion, SymmetricRelevanceGain, Abpc])
def test_batch_is_singles_and_passes_may_be_of_any_size(kind):
    made = kind(steps=6) if kind is not Abpc else kind(steps=6, size=2)
    name = made.metrics[0].name
    _, given = case(size=4)
    whole = table_of(given, made, made.variants(("positive",)))[name]
    for size in (1, 1000):
        np.testing.assert_array_equal(table_of(case(size=size)[1], made, made.variants(("positive",)))[name], whole)
    singles = []
    for row in range(5):
        net, given = case()
        images = given.inputs[[row]]
        one = Batch(images, given.labels[[row]], given.heatmaps[[row]], net, lambda net=net, images=images: net(images),
                    [given.ids[row]], 0, MOMENTS, 4)  # fmt: skip
        singles.append(table_of(one, made, made.variants(("positive",)))[name])
    np.testing.assert_allclose(np.concatenate(singles), whole, rtol=0, atol=1e-12)


def asked(given, *wanted) -> int:
    given.forward.asked = 0
    clean = given.clean()  # known already
    given.clean = lambda: clean
    given.forward.asked = 0
    for made in wanted:
        table_of(given, made, made.variants(("positive", "negative")))
    return given.forward.asked


def test_what_several_share_is_asked_once_and_each_says_what_it_asks():
    for made in (Deletion(), Insertion(), SymmetricRelevanceGain(), Abpc(size=2, steps=6)):
        assert asked(case()[1], made) == 5 * made.asked(("positive", "negative"))
    gain = SymmetricRelevanceGain(fill="zero", steps=10)
    assert asked(case()[1], Deletion(steps=10), gain) == 5 * 20
    assert asked(case()[1], Deletion(steps=10, fill="mean"), gain) == 5 * 30
    assert asked(case()[1], RegionPerturbation(size=2, steps=6), Abpc(size=2, steps=6)) == 5 * 18
    assert asked(case()[1], RegionPerturbation(size=2, steps=6), Abpc(size=2, steps=5)) == 5 * 28


@pytest.mark.parametrize("output", ["logit", "probability"])
def test_abpc_is_the_difference_of_the_two_aopc(output):
    _, given = case()
    regions = RegionPerturbation(size=2, steps=6, output=output)
    table = table_of(given, regions, regions.variants(()))
    aopc = {order: table[output][table["variant"] == order].reshape(5, 7).astype(float) for order in ("morf", "lerf")}
    aopc = {order: (values[:, :1] - values).mean(1) for order, values in aopc.items()}
    made = Abpc(size=2, steps=6, output=output)
    got = table_of(given, made, made.variants(()))["abpc"]
    np.testing.assert_allclose(got, aopc["morf"] - aopc["lerf"], rtol=0, atol=1e-6)


def test_a_ranking_by_what_the_network_uses_beats_one_by_chance():
    """In a whole run, in every one of the four."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16 * 16, 3))
    made = {
        "deletion": ("deletion", {"output": "logit", "steps": 10}),
        "insertion": ("insertion", {"output": "logit", "steps": 10}),
        "srg": "srg",
        "abpc": ("abpc", {"fill": "zero", "size": 3, "steps": 20}),
    }
    images = torch.randn(8, 2, 18, 18)
    results = rapbench.evaluate(network, images, methods=["gradient_x_input", "random"], protocols=made)
    table = results.table()
    single = table[table["k"] == ""].set_index(["protocol", "method"])["value"]
    for name, sign in (("deletion", -1), ("insertion", 1), ("srg", 1), ("abpc", 1)):
        assert sign * single[name, "gradient_x_input"] > sign * single[name, "random"], name


def test_an_even_kernel_has_no_middle():
    with pytest.raises(RapbenchError, match="kernel=10 must be odd"):
        Insertion(kernel=10)
