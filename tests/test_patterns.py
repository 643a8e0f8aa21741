"""Patterns against theory and a dense NumPy reference, the two methods against autograd, the file, and the command."""

import copy
import hashlib
import io
import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn
from torchvision.models._api import BUILTIN_MODELS, Weights, WeightsEnum, register_model
from torchvision.models.resnet import BasicBlock
from torchvision.transforms._presets import ImageClassification

import rapbench
from rapbench.app.cli import main
from rapbench.data.samples import samples
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.identity import identity_of
from rapbench.evaluation.selection import with_files
from rapbench.methods import methods
from rapbench.model import hash_weights
from rapbench.patterns import estimate, save
from rapbench.patterns.chain import chain
from rapbench.patterns.file import default_path, find
from rapbench.zoo import models
from rapbench.zoo.torchvision import facts, from_torchvision
from tests.conftest import calibrated, resnet, vgg

CHECK = settings(max_examples=80, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
METHODS = ("pattern_net", "pattern_attribution")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "patterns"


def linear(weight: list[list[float]], bias: list[float]) -> nn.Linear:
    layer = nn.Linear(len(weight[0]), len(weight)).double()
    layer.weight.data, layer.bias.data = torch.tensor(weight).double(), torch.tensor(bias).double()
    return layer


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


# Theory


@pytest.mark.parametrize("bias", [0.0, 3.0])
def test_the_linear_estimator_finds_the_papers_toy_signal(bias):
    # section 2: x = (1, 0) y + (1, 1) eps; the filter (1, -1) cancels the distractor, and is not the signal
    y, eps = noise(200_000), 2 * noise(200_000, seed=1) + 0.5
    x = torch.stack([y + eps, eps], dim=1)
    pattern = estimate(nn.Sequential(linear([[1.0, -1.0]], [bias])), x.split(10_000))["0"]
    torch.testing.assert_close(pattern, torch.tensor([[1.0, 0.0]]).double(), atol=0.01, rtol=0)


def regimes(n: int = 200_000) -> tuple[Tensor, Tensor, Tensor]:
    """Samples whose signal has one direction where w^T x > 0 and another elsewhere; w; the positive direction."""
    w = torch.tensor([1.0, -1.0, 0.5]).double()
    positive, negative = torch.tensor([0.5, -0.5, 0.0]).double(), torch.tensor([0.0, -0.5, 1.0]).double()
    assert w @ positive == w @ negative == 1
    y, eps = noise(n, 1), noise(n, 2, seed=1)
    distractor = (
        eps[:, :1] * torch.tensor([1.0, 1.0, 0.0]).double() + eps[:, 1:] * torch.tensor([0.0, 0.5, 1.0]).double()
    )
    return torch.where(y > 0, positive, negative) * y + distractor, w, positive


def test_the_two_component_estimator_finds_the_positive_regimes_signal():
    x, w, positive = regimes()
    rectified = nn.Sequential(linear([w.tolist()], [0.0]), nn.ReLU(), linear([[1.0]], [0.0]))
    torch.testing.assert_close(estimate(rectified, [x])["0"][0], positive, atol=0.01, rtol=0)
    plain = nn.Sequential(linear([w.tolist()], [0.0]), linear([[1.0]], [0.0]))
    assert (estimate(plain, [x])["0"][0] - positive).abs().max() > 0.1  # S_a mixes both regimes


# The dense reference


def patches(layer: nn.Module, x: np.ndarray) -> np.ndarray:
    """(samples and positions, cin * kernel), gathered element by element."""
    if isinstance(layer, nn.Linear):
        return x.reshape(-1, x.shape[-1])
    kernel, stride, dilation = layer.kernel_size, layer.stride, layer.dilation
    if layer.padding == "same":
        pads = [((total := d * (k - 1)) // 2, total - total // 2) for k, d in zip(kernel, dilation, strict=True)]
    else:
        pads = [(p, p) for p in layer.padding]
    x = np.pad(x, [(0, 0), (0, 0), *pads], mode="constant" if layer.padding_mode == "zeros" else "wrap")
    sizes = [(n - d * (k - 1) - 1) // s + 1
             for n, k, s, d in zip(x.shape[2:], kernel, stride, dilation, strict=True)]  # fmt: skip
    rows = []
    for sample in x:
        for position in itertools.product(*map(range, sizes)):
            row = [
                sample[
                    (channel, *(p * s + o * d for p, s, o, d in zip(position, stride, offset, dilation, strict=True)))
                ]
                for channel in range(x.shape[1])
                for offset in itertools.product(*map(range, kernel))
            ]
            rows.append(row)
    return np.array(rows)


def dense(layer: nn.Module, x: Tensor, rectified: bool) -> np.ndarray:
    """Equation (8), or (4), unit by unit over all patches."""
    rows = patches(layer, x.numpy())
    found = []
    for unit, w in enumerate(layer.weight.detach().numpy().reshape(len(layer.weight), -1)):
        y = rows @ w + (0 if layer.bias is None else layer.bias[unit].item())
        if not rectified:
            centred = y - y.mean()
            found.append((rows - rows.mean(0)).T @ centred / len(y) / (centred**2).mean())
            continue
        positive = y > 0
        if not positive.any():
            found.append(np.zeros_like(w))
            continue
        numerator = (rows[positive] * y[positive, None]).mean(0) - rows[positive].mean(0) * y.mean()
        found.append(numerator / (w @ numerator))
    return np.array(found)


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor]:
    """A linear layer of any kind and inputs for it."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dimensions, bias = draw(st.integers(0, 3)), draw(st.booleans())
    if dimensions == 0:
        layer: nn.Module = nn.Linear(draw(st.integers(1, 5)), draw(st.integers(1, 4)), bias=bias)
        between = [draw(st.integers(1, 3))] if draw(st.booleans()) else []
        x = torch.randn(9, *between, layer.in_features)
    else:
        mode = draw(st.sampled_from(["zeros", "circular"]))
        same = draw(st.booleans())
        layer = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dimensions - 1](
            draw(st.integers(1, 2)), draw(st.integers(1, 3)), [draw(st.integers(1, 3)) for _ in range(dimensions)],
            stride=1 if same else draw(st.integers(1, 2)), padding="same" if same else draw(st.integers(0, 1)),
            dilation=draw(st.integers(1, 2)), bias=bias, padding_mode=mode,
        )  # fmt: skip
        x = torch.randn(4, layer.in_channels, *[draw(st.integers(3, 5)) for _ in range(dimensions)])
    layer, x = layer.double(), x.double() + 0.3
    try:
        layer(x)
    except RuntimeError:  # the dilated kernel is larger than the input
        assume(False)
    return layer, x


@CHECK
@given(layers(), st.booleans(), st.integers(1, 5))
def test_every_layer_equals_the_dense_reference(drawn, rectified, size):
    layer, x = drawn
    want = torch.from_numpy(dense(layer, x, rectified))
    assume(want.abs().max() < 1e4)  # a denominator near 0 is no test of the formula
    got = estimate(nn.Sequential(layer, *[nn.ReLU()] * rectified), x.split(size))["0"]
    assert got.shape == layer.weight.shape
    torch.testing.assert_close(got.flatten(1), want, rtol=1e-7, atol=1e-9)


def many(n: int = 24, seed: int = 5) -> Tensor:
    return noise(n, 3, 16, 16, seed=seed)


def test_weight_times_pattern_is_one_unless_a_unit_is_silent():
    net = calibrated(vgg(), 32)
    net[0].bias.data[3] = -100
    patterns = estimate(net, [many()])
    assert list(patterns) == ["0", "3", "8", "11"]
    assert not patterns["0"][3].any()
    for name, pattern in patterns.items():
        share = (net[int(name)].weight * pattern).flatten(1).sum(1)
        silent = (pattern == 0).flatten(1).all(1)
        torch.testing.assert_close(share[~silent], torch.ones_like(share)[~silent])
        assert silent.sum() < len(silent) / 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_unit_that_never_varies_has_no_pattern(dtype):
    net = calibrated(vgg(), 32).to(dtype)
    patterns = estimate(net, [many(1, seed=7).to(dtype).expand(12, -1, -1, -1)[i : i + 3] for i in range(0, 12, 3)])
    assert patterns["0"].any()  # varies over the positions of one image
    assert not patterns["8"].any()  # a fully connected layer does not
    assert not patterns["11"].any()


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 2e-3)])
def test_batches_of_any_size_give_the_same(dtype, rtol):
    net, x = calibrated(vgg(norm=True), 32).to(dtype), many().to(dtype)
    whole = estimate(net, [x])
    for sizes in ([1] * 24, [7, 12, 5]):
        parts = estimate(net, x.split(sizes))
        for name, pattern in whole.items():
            assert pattern.dtype == dtype
            torch.testing.assert_close(parts[name], pattern, rtol=rtol, atol=rtol * float(pattern.abs().max()))


def test_which_layers_are_rectified_depends_on_what_follows_them():
    conv = {name: nn.Conv2d(1, 2, 3).double() for name in "abc"}
    x = noise(30, 1, 8, 8)
    for between, same in (
        ([nn.ReLU()], True),
        ([nn.MaxPool2d(2), nn.Dropout(), nn.ReLU()], True),
        ([nn.AvgPool2d(2), nn.ReLU()], False),
        ([nn.Flatten(), nn.Linear(72, 3).double(), nn.ReLU()], False),
        ([], False),
    ):
        got = estimate(nn.Sequential(conv["a"], *between), [x])["0"]
        want = dense(conv["a"], x, rectified=same)
        torch.testing.assert_close(got.flatten(1), torch.from_numpy(want), rtol=1e-7, atol=1e-9)


def folded(net: nn.Sequential) -> nn.Sequential:
    """The network with each batch norm's scale and shift worked into the convolution before it."""
    result = copy.deepcopy(net)
    for number, norm in enumerate(net):
        if isinstance(norm, nn.BatchNorm2d):
            scale = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
            conv = result[number - 1]
            conv.weight.data *= scale[:, None, None, None]
            conv.bias.data = (conv.bias.data - norm.running_mean) * scale + norm.bias.data
            result[number] = nn.Identity()
    return result


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_norm_counts_as_part_of_the_layer_before(method, images, targets):
    net = calibrated(vgg(norm=True), 32)
    by_hand = folded(net)
    torch.testing.assert_close(by_hand(images), net(images))
    got, want = estimate(net, [many()]), estimate(by_hand, [many()])
    for name, pattern in want.items():
        torch.testing.assert_close(got[name], pattern, rtol=1e-6, atol=1e-8)
    for network in (net, by_hand):
        save(want, network)
    torch.testing.assert_close(
        rapbench.attribute(net, images, targets, method), rapbench.attribute(by_hand, images, targets, method)
    )


def test_a_module_called_twice_has_a_pattern_for_each_call():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
            self.head = nn.Linear(48, 5)

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = torch.relu(norm(self.conv(x)))
            return self.head(x.view(x.size(0), -1))

    net = Twice().double()
    net.norms[0].running_mean.fill_(0.2)
    net.norms[1].running_var.fill_(0.3)
    net.eval()
    x = noise(30, 3, 4, 4)
    patterns = estimate(net, [x])
    norm = net.norms[0]
    first = copy.deepcopy(net.conv)
    first.weight.data /= (norm.running_var + norm.eps).sqrt()[:, None, None, None]
    first.bias.data = (first.bias.data - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    assert len(patterns) == 3
    torch.testing.assert_close(
        patterns["conv"].flatten(1), torch.from_numpy(dense(first, x, True)), rtol=1e-7, atol=1e-9
    )
    save(patterns, net)
    assert rapbench.attribute(net, x[:2], 1, "pattern_net").any()


# The way back


class Functional(nn.Module):
    """Everything that belongs to a chain, in other words."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(3, 6, 3, stride=2), nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm1d(7)
        self.dense, self.head = nn.Linear(4, 7), nn.Linear(7, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.relu_(self.one(input=x))
        x = nn.functional.avg_pool2d(x, 2)
        x = nn.functional.max_pool2d(self.two(x), 3).relu()
        x = nn.functional.dropout(x.mean((2, 3)), training=self.training)
        return self.head(torch.relu(self.norm(self.dense(x.reshape(x.shape[0], -1)))))


@pytest.mark.parametrize(("method", "pattern"), [
    ("pattern_net", lambda weight: weight), ("pattern_attribution", torch.ones_like),
])  # fmt: skip
@pytest.mark.parametrize("build", [vgg, lambda: vgg(norm=True), Functional])
def test_with_trivial_patterns_both_are_the_gradient_times_the_logit(method, pattern, build, images, targets):
    net = build()
    net = calibrated(net, 32)
    x = images.clone().requires_grad_()
    logits = net(x).gather(1, targets[:, None])[:, 0]
    (want,) = torch.autograd.grad(logits, x, logits.detach())
    plain = folded(net) if isinstance(net, nn.Sequential) else net
    weights = {name: module.weight.detach() for name, module in plain.named_modules()
               if isinstance(module, (nn.Conv2d, nn.Linear))}  # fmt: skip
    if isinstance(net, Functional):
        norm = net.norm
        weights["dense"] = weights["dense"] * (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()[:, None]
    save({name: pattern(weight) for name, weight in weights.items()}, net)
    torch.testing.assert_close(rapbench.attribute(net, images, targets, method), want, rtol=1e-8, atol=1e-12)


def test_a_small_net_by_hand():
    net = nn.Sequential(linear([[1, 2], [3, -1], [-1, -1]], [0, 1, 0]), nn.ReLU(),
                        linear([[2, 1, 5], [1, -1, 1]], [0, 0.5])).eval()  # fmt: skip
    x = torch.tensor([[1.0, 1.0], [1.0, -2.0]]).double()
    # image 1, target 0: hidden (3, 3, 0), logit 9; image 2, target 1: hidden (0, 6, 1), logit -4.5
    a = {"0": torch.tensor([[1.0, 0.0], [0.5, 0.5], [-1.0, 0.0]]).double(),
         "2": torch.tensor([[0.25, 0.5, 0.0], [2.0, 1.0, 4.0]]).double()}  # fmt: skip
    save(a, net)
    # PatternNet: 9 (0.25 a_1 + 0.5 a_2), -4.5 (1 a_2 + 4 a_3)
    want = torch.tensor([[9 * (0.25 + 0.25), 9 * 0.25], [-4.5 * (0.5 - 4), -4.5 * 0.5]]).double()
    torch.testing.assert_close(rapbench.attribute(net, x, [0, 1], "pattern_net"), want)
    # PatternAttribution, w * a: row 1 (1, 0), row 2 (1.5, -0.5), row 3 (1, 0); top (0.5, 0.5, 0), (2, -1, 4)
    want = torch.tensor([[9 * (0.5 + 0.75), 9 * -0.25], [-4.5 * (-1.5 + 4), -4.5 * 0.5]]).double()
    torch.testing.assert_close(rapbench.attribute(net, x, [0, 1], "pattern_attribution"), want)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("power", [25, -25])
def test_a_signal_beyond_float32_comes_back_scaled(method, power, images, targets):
    net = calibrated(vgg(), 32).float()
    patterns = {name: pattern.float() for name, pattern in estimate(net.double(), [many()]).items()}
    net = net.float()
    save(patterns, net)
    want = rapbench.attribute(net, images.float(), targets, method)
    # a factor on the way back alone: by 2^25 a layer, 2^100 in all, and more than float32 has by its own
    save({name: pattern * 2.0 ** (1.6 * power) for name, pattern in patterns.items()}, net)
    got = rapbench.attribute(net, images.float(), targets, method)
    assert got.isfinite().all()
    for one, other in zip(got, want, strict=True):
        assert one.any()
        torch.testing.assert_close(one / one.abs().max(), other / other.abs().max())
    save({name: pattern * 2.0 ** (power // 5) for name, pattern in patterns.items()}, net)
    exact = rapbench.attribute(net, images.float(), targets, method)
    torch.testing.assert_close(exact, want * 2.0 ** (4 * (power // 5)), rtol=1e-6, atol=0)


# What is refused


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(x), x


class Then(nn.Module):
    """A head on what a function makes of the input."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function, self.head = function, nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(x))


REFUSED: dict[str, tuple] = {
    r"Add at layer4\.0 .* does not belong": (lambda: resnet(BasicBlock), (3, 16, 16)),
    "ReLU6 at 1 does not belong": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), *flat(4)), (3, 8, 8)),
    "Conv2d with groups at 0 does": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), *flat(4)), (4, 8, 8)),
    "Conv2d with groups at 0 .*does": (
        lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=2), nn.BatchNorm2d(4), *flat(4)), (4, 8, 8)),
    "ConvTranspose2d at 0 does": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(4), *flat(4)), (3, 4, 4)),
    "BatchNorm2d at 0 does": (lambda: nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), *flat(4)), (3, 8, 8)),
    "BatchNorm2d at 2 does": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.BatchNorm2d(4), *flat(4)), (3, 8, 8)),
    "batch norm needs running statistics|BatchNorm2d at 1 has no running statistics": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), *flat(4)), (3, 8, 8)),
    "Softmax at 1 does": (lambda: nn.Sequential(nn.Linear(3, 4), nn.Softmax(1)), (3,)),
    r"mul at the top level \(mul\)": (lambda: Then(lambda x: x * 2), (3,)),
    "one output|the logits alone": (Two, (3,)),
    "here are none": (lambda: nn.Sequential(nn.ReLU()), (3,)),
}  # fmt: skip


def flat(channels: int) -> list[nn.Module]:
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2)]


@pytest.mark.parametrize("says", REFUSED)
def test_other_networks_are_refused_before_anything_is_read(says):
    build, shape = REFUSED[says]
    net = build().eval()

    def nothing():
        raise AssertionError("images were asked for")
        yield

    for attempt in (
        lambda: estimate(net, nothing()),
        lambda: rapbench.attribute(net, torch.rand(1, *shape), 0, "pattern_net"),
        lambda: find(net, None),
    ):
        with pytest.raises(rapbench.RapbenchError, match=says):
            attempt()


def test_a_norm_across_a_fully_connected_layers_positions_is_unsupported():
    """BatchNorm1d on (N, 4, 4) normalises dimension 1, whose size says nothing here; seen with the images."""

    class Positions(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return self[2](self[1](self[0](x)).flatten(1))

    torch.manual_seed(0)
    net = Positions(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(16, 2)).eval()
    net[1].running_mean.normal_()
    save({"0": torch.zeros(4, 3), "2": torch.zeros(2, 16)}, net)
    for attempt in (
        lambda: estimate(net, [torch.rand(5, 4, 3)]),
        lambda: rapbench.attribute(net, torch.rand(1, 4, 3), 0, "pattern_net"),
    ):
        with pytest.raises(rapbench.RapbenchError, match="BatchNorm1d at 1: it normalises dimension 1"):
            attempt()


def test_a_model_prepared_on_rows_is_not_taken_at_its_word_for_positions():
    """The graph holds for any size, but the folded norm for (N, features) alone."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double().eval()
    save(estimate(net, [noise(50, 3)]), net)
    rapbench.attribute(net, noise(2, 3), 0, "pattern_net")
    network = chain(net, noise(2, 3))
    with pytest.raises(rapbench.RapbenchError, match="BatchNorm1d at 1"):
        network.layers["0"](noise(2, 4, 3))


def test_no_images_and_nan_images_are_named():
    net = calibrated(vgg(), 32)
    with pytest.raises(rapbench.RapbenchError, match="there are none"):
        estimate(net, [])
    with pytest.raises(rapbench.RapbenchError, match="NaN or infinite logits; do the images or weights hold NaN"):
        estimate(net, [many(2) * float("nan")])
    with pytest.raises(rapbench.RapbenchError, match=r"patterns of 0, 3, .* not finite"):
        estimate(net, [many(2), many(2) * float("nan")])


# The file


def facts_of(path: Path) -> dict:
    with safe_open(path, "pt") as file:
        return json.loads(file.metadata()["rapbench"])


def test_the_file_says_what_it_is_for_and_is_found_by_the_weights(cache):
    net = calibrated(vgg(), 32)
    patterns = estimate(net, [many()])
    path = save(patterns, net, image_hashes=["b", "a"])
    assert path == cache / f"{hash_weights(net)}.safetensors" == default_path(hash_weights(net)) == find(net, None)
    assert facts_of(path) == {
        "format": "rapbench patterns 2",
        "estimator": "S_a+- before a ReLU, S_a elsewhere (Kindermans et al. 2017, equations 8 and 4)",
        "weights_sha256": hash_weights(net),
        "patterns_sha256": facts_of(path)["patterns_sha256"],  # see the test below
        "images": 2,
        "images_sha256": hashlib.sha256(b"a\nb").hexdigest(),
    }
    before = path.read_bytes()
    for _ in range(10):  # its bytes are its identity
        assert save(patterns, net, image_hashes=["a", "b"]).read_bytes() == before
    with safe_open(path, "pt") as file:
        for name, pattern in patterns.items():
            assert torch.equal(file.get_tensor(name), pattern)


def test_a_file_that_does_not_fit_says_why(images, tmp_path):
    net = calibrated(vgg(), 32)
    patterns = estimate(net, [many()])
    path = save(patterns, net, "file.safetensors")
    other = calibrated(vgg(), 32, seed=3)

    def says(match: str, model: nn.Module = net) -> None:
        with pytest.raises(rapbench.RapbenchError, match=match) as caught:
            rapbench.attribute(model, images, 0, "pattern_net", patterns="file.safetensors")
        assert "\n" not in str(caught.value)

    says(f"made for other weights: SHA-256 {hash_weights(net)}, this model's are {hash_weights(other)}", other)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    for changed, match in (
        ({"0": None}, "file.safetensors and the model's layers do not match: 0 is missing"),
        ({"9": patterns["0"]}, "do not match: 9 is unknown"),
        ({"3": patterns["0"]}, r"do not match: 3 has shape \[8, 3, 3, 3\] instead of \[12, 8, 3, 3\]"),
    ):
        tensors = {name: tensor.clone() for name, tensor in (patterns | changed).items() if tensor is not None}
        safetensors.torch.save_file(tensors, path, metadata)
        says(match)
        with pytest.raises(rapbench.RapbenchError, match=match.removeprefix("file.safetensors")):
            save(tensors, net)
    for name in ("0", "3", "11"):  # in the same place, of the same shape, and one number is another
        changed = patterns | {name: patterns[name].clone()}
        changed[name].view(-1)[5] += 1e-3
        safetensors.torch.save_file(changed, path, metadata)
        says("file.safetensors has changed since it was written .its patterns' SHA-256.; make it again")
    save(patterns | {"3": patterns["3"] * torch.nan}, net, "file.safetensors")
    says("file.safetensors: 3 holds NaN or infinite values; make it again")
    safetensors.torch.save_file(patterns, path, {"rapbench": json.dumps({"format": "rapbench patterns 0"})})
    says("its format is 'rapbench patterns 2', it says 'rapbench patterns 0'; make it again")
    safetensors.torch.save_file(patterns, path)
    says("it says 'nothing'")
    path.write_bytes(path.read_bytes()[:-1])
    says("file.safetensors is no safetensors file, or a broken one")
    path.write_bytes(b"")
    says("is no safetensors file")
    path.unlink()
    says(r"there are no patterns at file\.safetensors; .*patterns\.save\(.*estimate\(model, batches\), model, 'file")


def test_a_place_that_cannot_be_written_is_named():
    net = calibrated(vgg(), 32)
    Path("file").write_text("")
    with pytest.raises(rapbench.RapbenchError, match="cannot write file/x: File exists"):
        save(estimate(net, [many()]), net, "file/x")


# The command, on a small network that comes the way of torchvision's own


def tiny() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(6 * 7 * 7, 16),
                         nn.ReLU(), nn.Linear(16, 1000))  # fmt: skip


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(tiny().state_dict(), buffer)
    source = tmp_path / f"tiny_vgg-{hashlib.sha256(buffer.getvalue()).hexdigest()[:8]}.pth"
    source.write_bytes(buffer.getvalue())
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    class TinyWeights(WeightsEnum):
        DEFAULT = Weights(source.as_uri(), lambda: ImageClassification(crop_size=16, resize_size=20), {})

    @register_model(name="tiny_vgg")
    def tiny_vgg(*, weights: Optional[TinyWeights] = None, num_classes: int = 1000) -> nn.Module:  # noqa: UP045  its form
        return tiny()

    models.register("tiny_vgg", **facts("tiny_vgg"))(lambda: from_torchvision("tiny_vgg"))
    yield "tiny_vgg"
    BUILTIN_MODELS.pop("tiny_vgg")


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A hundred and ten pictures of several kinds at several depths, and what is no picture."""
    folder = tmp_path / "pictures"
    (folder / "deep" / "er").mkdir(parents=True)
    random = np.random.default_rng(0)
    for number, suffix in zip(range(110), itertools.cycle(["jpg", "jpeg", "png", "JPEG", "webp", "bmp"])):
        place = [folder, folder / "deep", folder / "deep" / "er"][number % 3]
        pixels = random.integers(0, 255, (22, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.{suffix}")
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_the_command_makes_what_the_methods_use(zoo, pictures, cache, capsys):
    model = rapbench.load_model(zoo)
    x = torch.rand(2, 3, 16, 16)
    with pytest.raises(
        rapbench.RapbenchError, match="make them from images: rapbench patterns --model tiny_vgg --imag"
    ):
        rapbench.attribute(model, x, 0, "pattern_net")
    victim = pictures / "deep" / "er" / "2.png"
    victim.write_bytes(victim.read_bytes()[:50])
    assert main(["patterns", "--model", zoo, "--images", str(pictures)]) == 0
    printed, progress = capsys.readouterr()
    path = cache / f"{model.weights_sha256}.safetensors"
    assert "Patterns of 3 layers from 109 images of 110 below " in printed
    assert f"Written to {path}\nUse them: rapbench run model=tiny_vgg method=[pattern_attribution]\n" in printed
    assert "skipped: deep/er/2.png cannot be decoded" in printed + progress
    assert "109/110" in progress
    good = [file for file in sorted(pictures.rglob("*.*")) if file.name not in ("2.png", "notes.txt")]
    want = estimate(model.network, [torch.stack([model.transform(Image.open(file)) for file in good])])
    digests = sorted(hashlib.sha256(one.read_bytes()).hexdigest() for one in good)
    assert facts_of(path)["images"] == 109
    assert facts_of(path)["images_sha256"] == hashlib.sha256("\n".join(digests).encode()).hexdigest()
    with safe_open(path, "pt") as file:
        for name, pattern in want.items():
            torch.testing.assert_close(
                file.get_tensor(name), pattern, rtol=1e-2, atol=1e-3 * float(pattern.abs().max())
            )
    for method in METHODS:  # the wrapper and the network inside have the same patterns
        relevance = rapbench.attribute(model, x, 0, method)
        assert relevance.any()
        assert torch.equal(rapbench.attribute(model.network, x, 0, method), relevance)


def test_a_users_checkpoint_has_patterns_too(zoo, cache, tmp_path, capsys):
    torch.manual_seed(1)
    torch.save(tiny().state_dict(), "mine.pth")
    weights = hash_weights(rapbench.load_model("checkpoint", architecture=zoo, path="mine.pth").network)
    with pytest.raises(rapbench.RapbenchError) as caught:
        rapbench.attribute(rapbench.load_model("checkpoint", architecture=zoo, path="mine.pth"),
                           torch.zeros(1, 3, 16, 16), [0], "pattern_net")  # fmt: skip
    command = str(caught.value).partition("make them from images: rapbench ")[2].replace("--images FOLDER", "--n 5")
    assert main(command.split()) == 0
    assert (cache / f"{weights}.safetensors").is_file()
    said = "rapbench run model=checkpoint model.architecture=tiny_vgg model.path=mine.pth method=[pattern_attribution]"
    assert said in capsys.readouterr().out
    assert main(["patterns", "--model", zoo, "--option", "weights"]) == 2
    assert "argument --option: 'weights' is not KEY=VALUE" in capsys.readouterr().err


def test_the_command_draws_n_images_by_seed(zoo, pictures, capsys):
    def made(*options: str) -> bytes:
        assert main(["patterns", "--model", zoo, "--images", str(pictures), "--output", "x/mine", *options]) == 0
        return Path("x/mine").read_bytes()

    few = made("--n", "50", "--batch", "8")
    assert facts_of(Path("x/mine"))["images"] == 50
    assert "method=[pattern_attribution] method.pattern_attribution.patterns=x/mine\n" in capsys.readouterr().out
    assert made("--n", "50", "--batch", "8") == few
    assert made("--n", "50", "--batch", "8", "--seed", "1") != few
    made("--n", "5000")
    assert facts_of(Path("x/mine"))["images"] == 110


def test_the_command_without_images_takes_the_samples(zoo, cache, capsys):
    assert main(["patterns", "--model", zoo, "--n", "3"]) == 0
    assert "from 3 images of 20 embedded ImageNet images (package foolbox)" in capsys.readouterr().out


@pytest.mark.parametrize(("options", "says"), [
    (["--n", "0"], "--n and --batch must be at least 1"),
    (["--batch", "-1"], "--n and --batch must be at least 1"),
    (["--images", "nowhere"], "nowhere is not a folder of images"),
    (["--images", "torch"], "torch holds no images"),
    (["--device", "gpu"], "device 'gpu' cannot be used here"),
    (["--output", "torch"], "cannot write torch: it is a folder"),
    (["--output", "flat/x"], "cannot make the folder of flat/x"),
    (["--images", "broken"], "2 of 3 images in .*broken cannot be decoded (0.png, 1.png)"),
    (["--model", "vgg61"], "unknown model 'vgg61'"),
    (["--model", "efficientnet_lite0"], "VGG-type networks"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(zoo, options, says, capsys):
    Path("torch").mkdir(exist_ok=True)
    Path("flat").write_text("")
    Path("broken").mkdir()
    Image.new("RGB", (30, 30)).save("broken/good.png")
    for number in range(2):
        Path(f"broken/{number}.png").write_text("?")
    assert main(["patterns", "--model", zoo, *options]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("rapbench: ")
    for part in says.split(".*"):
        assert part in last
    assert not list(Path().rglob("*.safetensors"))


def test_a_stopped_command_leaves_nothing(zoo, cache, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rapbench.patterns.make.save", stop)
    assert main(["patterns", "--model", zoo]) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "rapbench: stopped; the same command begins anew"
    assert not list(cache.iterdir())


def test_help_does_without_torch():
    code = ("import sys; from rapbench.app.cli import main\ntry: main(['patterns', '--help'])\n"
            "except SystemExit: sys.exit('torch' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert done.returncode == 0, done.stderr
    assert "--images" in done.stdout


# The results store


def test_a_file_counts_by_its_content(cache):
    net = calibrated(vgg(), 32)
    patterns = estimate(net, [many()])
    path = save(patterns, net)
    shutil.copy(path, "copy")
    entry = methods["pattern_net"]

    def identity(**options: str | None) -> dict:
        return identity_of(with_files(Choice("label", entry, options, {}), net))

    first = identity()
    assert first["options"] == {"patterns": hashlib.sha256(path.read_bytes()).hexdigest()}
    assert first == identity(patterns=None) == identity(patterns="copy")
    save(estimate(net, [many(seed=9)]), net)
    assert identity() != first
    assert identity(patterns="copy") == first
    rap = Choice("rap", methods["rap"], {"flow": "both"}, {})
    assert with_files(rap, net) == rap


def test_a_run_keys_its_results_by_the_patterns_content(zoo, cache, capsys):
    dataset = samples()
    rows = [f"{sample.file},{sample.label},{hashlib.sha256(dataset.read(sample.file)).hexdigest()},0.0,m,w"
            for sample in dataset.samples[:2]]  # fmt: skip
    Path("mine.csv").write_text("\n".join(["file,label,sha256,logit,model,weights_sha256", *rows]))

    given = ["protocol=[distance]", "k.positive=[0,10]", "k.negative=[0,10]", "subset.manifest=mine.csv"]

    def run(*overrides: str, code: int = 0) -> int:
        assert main(["run", f"model={zoo}", "method=[pattern_attribution]", *given, *overrides]) == code
        return len(list(Path("results/store").glob("cells/*/*.parquet")))

    assert run(code=2) == 0
    assert "rapbench patterns --model tiny_vgg --images FOLDER" in capsys.readouterr().err.splitlines()[-1]
    assert main(["patterns", "--model", zoo]) == 0
    assert run() == 1
    (path,) = cache.iterdir()
    provenance = json.loads(next(Path("results").rglob("provenance.json")).read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert provenance["methods"]["pattern_attribution"]["options"] == {"patterns": digest}
    shutil.move(path, "elsewhere")
    assert run("method.pattern_attribution.patterns=elsewhere") == 1
    assert main(["patterns", "--model", zoo, "--n", "10"]) == 0
    assert run() == 2
