"""Methods that perturb the image and look at the answer: SHAP, LIME, occlusion, RISE; by hand and against Captum."""

import itertools

import captum.attr
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import rapbench
from rapbench.core.random import seed_of
from rapbench.methods.adapters.noisy import noise_for, random_keys
from rapbench.methods.adapters.references import references_for
from rapbench.methods.adapters.superpixels import regions_of
from rapbench.methods.rise import masks_for
from tests.conftest import one_of
from tests.options import QUICK_METHODS

REGIONS = ["feature_ablation", "shapley_sampling", "kernel_shap", "lime"]
EACH = [*REGIONS, "occlusion", "rise", "gradient_shap", "deeplift_shap", "vargrad", "smoothgrad_squared"]
IDS = ["a", "b"]
TARGETS = torch.tensor([1, 3])


@pytest.fixture
def linear():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 12, 5)).double()


@pytest.fixture
def x():
    return torch.randn(2, 3, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def seeds_of(method, seed=0):
    return torch.tensor([seed_of(seed, name, method) for name in IDS])


def products(net, x, baseline):
    """w * (x - baseline): the exact contributions to a linear model's logits."""
    return net[1].weight.detach()[TARGETS].view_as(x) * (x - baseline)


@pytest.mark.parametrize(("method", "options", "error"), [
    ("feature_ablation", {}, 1e-12), ("shapley_sampling", {"samples": 2}, 1e-6), ("kernel_shap", {"samples": 60}, 1e-5),
])  # fmt: skip
@pytest.mark.parametrize("regions", ["slic", "grid"])
def test_shapley_values_of_a_linear_model_are_its_products_summed_over_each_region(
    method, options, error, regions, linear, x
):
    got = rapbench.attribute(linear, x, TARGETS, method, segments=6, regions=regions, baseline=0.5, **options)
    exact = products(linear, x, 0.5)
    for index, image in enumerate(x.split(1)):
        labels = regions_of(image, 6, regions)[0]
        assert labels.max() >= 2
        for region in labels.unique():
            want = exact[index][labels == region].sum()
            assert (got[index][labels == region] - want).abs().max() < error * max(1, want.abs())


@pytest.mark.parametrize("method", ["kernel_shap", "shapley_sampling"])
def test_shapley_values_of_a_small_game_are_those_of_all_permutations(method):
    class Game(nn.Module):
        def forward(self, x):
            a, b, c = x[:, 0].unbind(1)
            return torch.stack([a * b + b * c.square() + a - c, a], 1)

    x = torch.tensor([[[2.0, -1.0, 3.0]]], dtype=torch.float64)
    want = torch.zeros(3, dtype=torch.float64)
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        there = torch.zeros_like(x)
        before = Game()(there)[0, 0]
        for player in order:
            there[0, 0, player] = x[0, 0, player]
            after = Game()(there)[0, 0]
            want[player] += (after - before) / len(orders)
            before = after
    got = rapbench.attribute(Game(), x, 0, method, segments=3, samples=2000)[0, 0]
    assert (got - want).abs().max() < 0.3
    torch.testing.assert_close(got.sum(), want.sum(), rtol=1e-4, atol=0)


def test_occlusion_of_a_linear_model_is_its_products_summed_over_the_window(linear, x):
    got = rapbench.attribute(linear, x, TARGETS, "occlusion", window=4, stride=4, baseline=0.5)
    sums = F.avg_pool2d(products(linear, x, 0.5).sum(1, keepdim=True), 4) * 16
    want = F.interpolate(sums, scale_factor=4, mode="nearest").expand_as(x)
    torch.testing.assert_close(got, want)


def test_lime_leans_towards_the_products(linear, x):
    got = rapbench.attribute(linear, x, TARGETS, "lime", segments=6, regions="grid", samples=300)
    exact = products(linear, x, 0.0)
    for index, image in enumerate(x.split(1)):
        labels = regions_of(image, 6, "grid")[0]
        want = [exact[index][labels == region].sum().item() for region in labels.unique()]
        have = [got[index][labels == region].mean().item() for region in labels.unique()]
        assert np.corrcoef(want, have)[0, 1] > 0.98


@pytest.mark.parametrize(("method", "kind"), [
    ("feature_ablation", "FeatureAblation"), ("shapley_sampling", "ShapleyValueSampling"),
    ("kernel_shap", "KernelShap"), ("lime", "Lime"),
])  # fmt: skip
def test_it_is_captums_with_the_same_draws(method, kind, images, targets):
    net, seeds = one_of("vgg"), [seed_of(0, name, method) for name in "abc"]
    more = {} if method == "feature_ablation" else {"samples": 9}
    got = rapbench.attribute(net, images, targets, method, image_ids="abc", segments=5, batch=4, **more)
    for index, (image, seed) in enumerate(zip(images.split(1), seeds, strict=True)):
        torch.manual_seed(seed)
        mask = regions_of(image, 5, "slic")
        more = {} if method == "feature_ablation" else {"n_samples": 9}
        with torch.no_grad():
            want = getattr(captum.attr, kind)(net).attribute(image, target=int(targets[index]), baselines=0.0,
                                                             feature_mask=mask, **more)  # fmt: skip
        torch.testing.assert_close(got[index], want[0].double(), rtol=1e-5, atol=1e-6)


def test_occlusion_is_captums(images, targets):
    net = one_of("vgg")
    want = captum.attr.Occlusion(net).attribute(images, (3, 9, 9), (3, 5, 5), 0.5, targets)
    got = rapbench.attribute(net, images, targets, "occlusion", window=9, stride=5, baseline=0.5, batch=7)
    torch.testing.assert_close(got, want, check_dtype=False)


def test_deeplift_shap_is_captums(images, targets):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 9), nn.Sigmoid(),
                        nn.Linear(9, 10)).double()  # fmt: skip  # no pooling, of which Captum's hooks are wrong
    seeds = [seed_of(0, name, "deeplift_shap") for name in "abc"]
    got = rapbench.attribute(net, images, targets, "deeplift_shap", image_ids="abc", references=3, batch=2)
    for index, seed in enumerate(seeds):
        references = references_for(images[index : index + 1], torch.tensor([seed]), 3, 0.0, 0.15)
        want = captum.attr.DeepLiftShap(net).attribute(images[index : index + 1], references, int(targets[index]))
        torch.testing.assert_close(got[index], want[0].detach())


def test_deeplift_shap_is_complete_on_average_over_its_references(images, targets):
    net = one_of("resnet_basic")
    got = rapbench.attribute(net, images, targets, "deeplift_shap", image_ids="abc", references=4, baseline=0.3)
    for index in range(3):
        seed = torch.tensor([seed_of(0, "abc"[index], "deeplift_shap")])
        references = references_for(images[index : index + 1], seed, 4, 0.3, 0.15)
        with torch.no_grad():
            rise = net(images[index : index + 1])[0] - net(references).mean(0)
        torch.testing.assert_close(got[index].sum(), rise[targets[index]], rtol=1e-6, atol=0)


@pytest.mark.parametrize("method", ["deeplift_shap", "gradient_shap"])
def test_shap_of_a_linear_model_is_its_products(method, linear, x):
    got = rapbench.attribute(linear, x, TARGETS, method, noise=0.0, baseline=0.5)
    torch.testing.assert_close(got, products(linear, x, 0.5))


def test_deeplift_shap_of_a_linear_model_has_its_references_mean(linear, x):
    got = rapbench.attribute(linear, x, TARGETS, "deeplift_shap", image_ids=IDS)
    seeds = seeds_of("deeplift_shap")
    means = [references_for(x[i : i + 1], seeds[i : i + 1], 8, 0.0, 0.15).mean(0) for i in range(2)]
    torch.testing.assert_close(got, products(linear, x, torch.stack(means)))


def test_gradient_shap_is_captums_with_the_same_draws(images, targets):
    net = one_of("vgg")
    got = rapbench.attribute(net, images, targets, "gradient_shap", image_ids="abc", samples=6)
    for index in range(3):
        image, seed = images[index : index + 1], seed_of(0, "abc"[index], "gradient_shap")
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        references = references_for(image, torch.tensor([seed]), 8, 0.0, 0.15)
        want = captum.attr.GradientShap(net).attribute(image, references, n_samples=6, target=int(targets[index]))
        torch.testing.assert_close(got[index], want[0].detach())


def test_references_are_the_baseline_with_noise_of_the_images_range():
    image = torch.rand(1, 3, 64, 64, dtype=torch.float64) * 4
    seed = torch.tensor([5])
    few, many = (references_for(image, seed, count, 2.0, 0.1) for count in (3, 9))
    assert torch.equal(many[:3], few)
    assert abs(many.mean() - 2) < 0.01
    assert abs(many.std() / (0.1 * (image.max() - image.min())) - 1) < 0.02


class Square(nn.Module):
    def forward(self, x):
        return x.pow(2).flatten(1).sum(1, keepdim=True) / 2  # whose gradient is x


@pytest.mark.parametrize(("method", "of"), [
    ("vargrad", lambda gradients: gradients.var(0, unbiased=False)),
    ("smoothgrad_squared", lambda gradients: gradients.square().mean(0)),
    ("smoothgrad", lambda gradients: gradients.mean(0).abs()),
])  # fmt: skip
@pytest.mark.parametrize("batch", [3, 50])
def test_of_the_gradients_of_noisy_copies(method, of, batch, x):
    got = rapbench.attribute(Square(), x, 0, method, samples=20, batch=batch, image_ids=IDS)
    for index, seed in enumerate(seeds_of(method)):
        image = x[index : index + 1]
        copies = image + noise_for(image, random_keys(seed[None], 20)[0], 0.15)
        torch.testing.assert_close(got[index], of(copies))


def test_vargrad_has_no_negative_value(x):
    class Steep(nn.Module):
        def forward(self, x):
            return 1e4 * x.flatten(1).sum(1, keepdim=True)

    got = rapbench.attribute(Steep(), x.float(), 0, "vargrad", samples=7)
    assert got.min() >= 0


def test_rise_is_the_mean_of_masks_weighted_by_the_probability(linear, x):
    got = rapbench.attribute(linear, x, TARGETS, "rise", samples=10, cells=3, kept=0.4, baseline=0.5, image_ids=IDS)
    for index, seed in enumerate(seeds_of("rise")):
        want = torch.zeros(8, 12, dtype=torch.float64)
        for mask in masks_for(random_keys(seed[None], 10)[0], (8, 12), 3, 0.4):
            seen = x[index] * mask + 0.5 * (1 - mask)
            want += linear(seen[None]).softmax(1)[0, TARGETS[index]].detach() * mask / (10 * 0.4)
        torch.testing.assert_close(got[index], want.expand(3, 8, 12))


@pytest.mark.parametrize("space", [(40,), (24, 31), (12, 9, 10)])
def test_a_mask_is_a_shifted_window_of_its_enlarged_grid(space):
    masks = masks_for(random_keys(torch.tensor([3]), 400)[0], space, 4, 0.3)
    assert masks.shape == (400, *space)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-12
    assert abs(masks.mean() - 0.3) < 0.02
    mode = ("linear", "bilinear", "trilinear")[len(space) - 1]
    ones = masks_for(torch.tensor([1, 2]), space, 4, 1.0)
    torch.testing.assert_close(ones, torch.ones_like(ones))
    mask = masks[7]
    cells = [-(-size // 4) for size in space]
    grid = masks_grid(random_keys(torch.tensor([3]), 400)[0][7:8], len(space), 4, 0.3)
    large = F.interpolate(grid[None, None], [5 * cell for cell in cells], mode=mode)[0, 0]
    shifts = itertools.product(*(range(cell) for cell in cells))
    windows = [tuple(slice(a, a + n) for a, n in zip(place, space, strict=True)) for place in shifts]
    assert any(torch.equal(large[window], mask) for window in windows)


def masks_grid(seed, dimensions, cells, kept):
    uniform = random_keys(seed, cells**dimensions)[0].double() / 2.0**64 + 0.5
    return (uniform < kept).double().view([cells] * dimensions)


def test_rise_of_one_logit_is_by_its_sigmoid():
    class One(nn.Module):
        def forward(self, x):
            return x.flatten(1).sum(1, keepdim=True) / 10

    x = torch.rand(1, 1, 6, 6, dtype=torch.float64)
    got = rapbench.attribute(One(), x, 0, "rise", samples=1, cells=2, image_ids=["a"])
    seed = torch.tensor([seed_of(0, "a", "rise")])
    mask = masks_for(random_keys(seed, 1)[0], (6, 6), 2, 0.5)
    torch.testing.assert_close(got[0], One()(mask[None] * x).sigmoid() * mask / 0.5)


@pytest.mark.parametrize("method", EACH)
def test_it_depends_on_the_image_alone_and_not_on_what_shares_a_pass(method, x):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh() if method != "deeplift_shap" else nn.ReLU(), nn.Flatten(),
                        nn.Linear(240, 5)).double()  # fmt: skip
    options = QUICK_METHODS[method]
    states = torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    whole = rapbench.attribute(net, x, TARGETS, method, image_ids=IDS, **options)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all()  # noqa: NPY002
    torch.manual_seed(7)
    turned = rapbench.attribute(net, x.flip(0), TARGETS.flip(0), method, image_ids=IDS[::-1], **options)
    torch.testing.assert_close(turned.flip(0), whole, rtol=1e-6, atol=1e-9)
    if method != "gradient_shap":  # whose draws a pass makes together
        alone = rapbench.attribute(net, x, TARGETS, method, image_ids=IDS, **options | {"batch": 1})
        torch.testing.assert_close(alone, whole, rtol=1e-4, atol=1e-5)
    if method not in ("feature_ablation", "occlusion"):
        assert not torch.equal(rapbench.attribute(net, x, TARGETS, method, image_ids=IDS, seed=1, **options), whole)


@pytest.mark.parametrize("method", EACH)
@pytest.mark.parametrize("space", [(16,), (16, 9), (16, 9, 8)])
def test_it_is_of_any_dimensions_and_channels(method, space):
    net = nn.Sequential(nn.Flatten(), nn.Linear(2 * int(np.prod(space)), 3)).double()
    x = torch.randn(2, 2, *space, dtype=torch.float64)
    options = {name: value for name, value in QUICK_METHODS[method].items() if name != "regions"}
    got = rapbench.attribute(net, x, [0, 2], method, **options)
    assert got.shape == x.shape
    assert got.isfinite().all()


@pytest.mark.parametrize(("space", "channels", "kind"), [
    ((64, 64), 3, "slic"), ((64, 64), 1, "grid"), ((20, 20, 20), 3, "grid"), ((50,), 2, "grid"),
])  # fmt: skip
def test_regions_are_numbered_from_0_and_about_as_many_as_asked_for(space, channels, kind):
    image = torch.randn(1, channels, *space, generator=torch.Generator().manual_seed(0))
    labels = regions_of(image, 30, "auto")
    assert torch.equal(labels, regions_of(image, 30, kind))
    assert labels.shape == image.shape
    assert (labels == labels[:, :1]).all()
    count = int(labels.max()) + 1
    assert 15 <= count <= 60
    assert labels.unique().tolist() == list(range(count))
    assert torch.equal(regions_of(image, 30, kind), labels)


def test_a_grid_is_of_boxes():
    labels = regions_of(torch.zeros(1, 1, 4, 6), 4, "grid")[0, 0]
    assert labels.tolist() == [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2


@pytest.mark.parametrize(("method", "shape", "options", "says"), [
    ("occlusion", (1, 3, 8, 8), {}, r"windows of 15 pixels a side, got inputs of shape \(1, 3, 8, 8\); set window"),
    ("occlusion", (1, 4), {"window": 2}, r"got inputs of shape \(1, 4\)"),
    ("occlusion", (1, 3, 8, 8), {"window": 3, "stride": 4}, "stride=4 would leave pixels out between windows of 3"),
    ("lime", (1, 3, 8), {"regions": "slic"}, "superpixels need images of two or three dimensions.*set regions=grid"),
    ("lime", (1, 3, 8, 8), {"segments": 1}, "one region"),
    ("kernel_shap", (1, 3, 1, 1), {"regions": "grid"}, "one region"),
    ("rise", (1, 4), {}, "rise needs images of one to three dimensions"),
    ("rise", (1, 3, 8, 8), {"kept": 0.0}, "kept=0.0 is no probability above 0"),
])  # fmt: skip
def test_what_cannot_be_is_said_in_one_line(method, shape, options, says):
    net = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))
    with pytest.raises(rapbench.RapbenchError, match=says) as raised:
        rapbench.attribute(net, torch.rand(shape), 0, method, **options)
    assert len(str(raised.value).splitlines()) == 1
