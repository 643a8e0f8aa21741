"""Methods that another library names: `captum:NAME`."""

import captum.attr
import pytest
import torch
from torch import nn

import rapbench
from rapbench.methods import methods
from tests.conftest import one_of


@pytest.fixture
def net():
    return one_of("vgg")


def test_a_class_of_captum_is_a_method_with_its_arguments(net, images, targets):
    relevance = rapbench.attribute(net, images, targets, "captum:IntegratedGradients", n_steps=7, baselines=0.5)
    expected = captum.attr.IntegratedGradients(net).attribute(images, 0.5, targets, n_steps=7)
    torch.testing.assert_close(relevance, expected)
    assert methods["captum:IntegratedGradients"].label == "IntegratedGradients"


def test_its_draws_are_seeded_by_the_image(net, images, targets):
    state = torch.get_rng_state()
    options = {"baselines": 0.0, "n_samples": 4}

    def explain(index, **more):
        return rapbench.attribute(net, images[index], targets[index], "captum:KernelShap", **options, **more)

    whole = explain(slice(None))
    assert torch.equal(explain([2, 0])[1], whole[0])
    assert not torch.equal(explain([0], seed=1)[0], whole[0])
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("name", "options", "says"), [
    ("captum:Salency", {}, r"unknown method 'captum:Salency' \(did you mean 'Saliency'\?\); captum has: .*Occlusion"),
    ("captum:Saliency", {"absolute": 1}, r"no option 'absolute'.*its options: abs$"),
    ("captum:Saliency", {"abs": 2}, "option abs=2: Input should be a valid boolean"),
])  # fmt: skip
def test_unknown_names_and_arguments_are_named(name, options, says):
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(nn.Flatten(), torch.rand(1, 1, 2, 2), 0, name, **options)
