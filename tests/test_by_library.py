"""Methods that another library names: `captum:NAME`."""

import pytest
import torch
from captum import attr
from torch import nn

import rapbench
from rapbench.app.cli import main
from rapbench.methods import captum, methods
from tests.conftest import one_of
from tests.small import SMALL


@pytest.fixture
def net():
    return one_of("vgg")


def test_a_class_of_captum_is_a_method_with_its_arguments(net, images, targets):
    relevance = rapbench.attribute(net, images, targets, "captum:IntegratedGradients", n_steps=7, baselines=0.5)
    expected = attr.IntegratedGradients(net).attribute(images, 0.5, targets, n_steps=7)
    torch.testing.assert_close(relevance, expected)
    assert methods["captum:IntegratedGradients"].label == "IntegratedGradients"


def test_its_draws_are_seeded_by_the_image(net, images, targets):
    state = torch.get_rng_state()
    options = {"baselines": 0.0, "n_samples": 12, "feature_mask": 8}

    def explain(index, **more):
        return rapbench.attribute(net, images[index], targets[index], "captum:KernelShap", **options, **more)

    whole = explain(slice(None))
    assert torch.equal(explain([2, 0])[1], whole[0])
    assert not torch.equal(explain([0], seed=1)[0], whole[0])
    assert torch.equal(torch.get_rng_state(), state)


NEEDS = {
    "Occlusion": {"sliding_window_shapes": [3, 8, 8], "strides": [3, 8, 8]},
    "GradientShap": {"baselines": 0.0},
    "LayerGradientShap": {"baselines": 0.0},
    "FeatureAblation": {"feature_mask": 4},
    "LayerFeatureAblation": {"perturbations_per_eval": 64},
    "ShapleyValueSampling": {"feature_mask": 4, "n_samples": 2},
    "ShapleyValues": {"feature_mask": 4},
    "KernelShap": {"feature_mask": 4},
    "Lime": {"feature_mask": 4},
}


@pytest.mark.parametrize("name", [name for name in captum._known() if name not in captum.ELSEWHERE])
def test_every_class_that_is_known_explains_and_a_batch_is_its_images(name, net, images, targets):
    options = NEEDS.get(name, {})
    together = rapbench.attribute(net, images, targets, f"captum:{name}", **options)
    assert together.shape == images.shape
    assert together.dtype == images.dtype
    assert together.abs().sum() > 0
    alone = rapbench.attribute(net, images[1:2], targets[1:2], f"captum:{name}", **options)[0]
    torch.testing.assert_close(alone, together[1], rtol=1e-5, atol=1e-7)
    assert not any(module._forward_hooks or module._backward_hooks for module in net.modules())


@pytest.mark.parametrize("name", captum.ELSEWHERE)
def test_a_class_that_hangs_hooks_on_modules_names_the_method_that_is_right(name, net, images):
    assert captum.ELSEWHERE[name] in methods
    with pytest.raises(rapbench.RapbenchError, match=f"use {captum.ELSEWHERE[name]}, which sees them"):
        rapbench.attribute(net, images, 1, f"captum:{name}")


def test_a_class_of_layers_is_of_the_last_feature_map(net, images, targets):
    want = attr.LayerGradCam(net, net[4]).attribute(images, targets, relu_attributions=True)
    got = rapbench.attribute(net, images, targets, "captum:LayerGradCam", relu_attributions=True)
    want = nn.functional.interpolate(want, images.shape[2:], mode="bilinear").expand_as(images)
    torch.testing.assert_close(got, want)


def test_it_runs_from_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["method=[captum:InputXGradient,random]", "protocol=[distance]", "subset.n=2", "gallery=0", "paper=off"]
    assert main(["run", f"model={SMALL}", "device=cpu", *words]) == 0
    assert main(["list", "methods", "captum:Occlusion"]) == 0
    assert "sliding_window_shapes" in capsys.readouterr().out
    assert main(["run", f"model={SMALL}", "method=[captum:Salency]"]) == 2
    assert "did you mean 'Saliency'?" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "options", "says"), [
    ("captum:Salency", {}, r"unknown method 'captum:Salency' \(did you mean 'Saliency'\?\); captum has: .*Occlusion"),
    ("captum:Saliency", {"absolute": 1}, r"no option 'absolute'.*its options: abs$"),
    ("captum:Occlusion", {}, "'captum:Occlusion' needs a value for its option 'sliding_window_shapes'"),
    ("captum:Occlusion", {"sliding_window_shapes": [3, 9, 9]}, "Captum refuses its arguments: Sliding window"),
    ("captum:Saliency", {"abs": 2}, "option abs=2: Input should be a valid boolean"),
])  # fmt: skip
def test_unknown_names_and_arguments_are_named(name, options, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(nn.Flatten(), torch.rand(1, 1, 2, 2), 0, name, **options)
