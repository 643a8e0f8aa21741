"""What every registered method must do, and what each one is."""

import copy

import pytest
import torch
from torch import nn

import rapbench
from rapbench.methods import methods
from rapbench.patterns import estimate, save
from tests.conftest import calibrated, vgg
from tests.options import FOR_TRANSFORMERS, QUICK_METHODS, mostly_quick

MAY_VANISH = ("grad_cam", "guided_grad_cam", "xgrad_cam")  # where no position counts for the class
every_method = pytest.mark.parametrize("method", mostly_quick(methods))


# Methods that refuse networks, and what they say; those for transformers any network here, the others residual ones.
REFUSES = {
    "legrad": "legrad reads the attention of torchvision's vision transformers .*, and (Sequential|ResNet) is none",
    "attention_rollout": "attention_rollout takes vision transformers .*; (Sequential|ResNet) has no attention",
    "chefer": "chefer takes vision transformers .*; (Sequential|ResNet) has no attention",
    "pattern_net": r"VGG-type networks: .* Add at layer4",
    "pattern_attribution": r"VGG-type networks: .* Add at layer4",
}


@pytest.fixture(autouse=True)
def ready(request, tmp_path, monkeypatch):
    """Make what a method reads from the user's cache; where it refuses a network, check the reason and skip."""
    if not {"method", "network"} <= set(request.fixturenames):
        return
    method, network = (request.getfixturevalue(name) for name in ("method", "network"))
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))
    if method in REFUSES and (method in FOR_TRANSFORMERS or not isinstance(network, nn.Sequential)):
        with pytest.raises(rapbench.RapbenchError, match=REFUSES[method]):
            rapbench.attribute(network, request.getfixturevalue("images"), 0, method)
        pytest.skip("not for this network")
    if "patterns" in methods[method].facts.files:
        images = torch.randn(16, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        save(estimate(network, [images]), network)


@every_method
def test_a_heatmap_is_like_its_input(method, network, images, targets):
    relevance = rapbench.attribute(network, images, targets, method, **QUICK_METHODS.get(method, {}))
    assert relevance.shape == images.shape
    assert relevance.dtype == images.dtype
    assert relevance.isfinite().all()
    assert not relevance.requires_grad
    assert method in MAY_VANISH or (relevance.flatten(1).abs().sum(1) > 0).all()
    if methods[method].facts.signs == ("positive",) and not method.startswith("lrp_"):  # a few of LRP's become negative
        assert relevance.min() >= 0


@every_method
def test_a_batch_is_its_images_one_by_one(method, network, images, targets):
    together = rapbench.attribute(network, images, targets, method, **QUICK_METHODS.get(method, {}))
    for index in range(len(images)):
        one = slice(index, index + 1)
        alone = rapbench.attribute(network, images[one], targets[one], method, **QUICK_METHODS.get(method, {}))[0]
        assert (alone - together[index]).abs().max() <= 1e-10 * together[index].abs().max()


@every_method
def test_the_model_and_the_input_come_back_as_they_were(method, network, images, targets):
    network.train()
    network[0].eval() if isinstance(network, nn.Sequential) else network.bn1.eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    attributes = [set(vars(module)) for module in network.modules()]
    given = images.clone()
    rapbench.attribute(network, images, targets, method, **QUICK_METHODS.get(method, {}))
    if methods[method].facts.looks_at_model:  # and must tidy up after an exception, too
        with pytest.raises(rapbench.RapbenchError, match="out of range"):
            rapbench.attribute(network, images, [0, 1, 10], method, **QUICK_METHODS.get(method, {}))
    after = network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [module.training for module in network.modules()] == modes
    assert [set(vars(module)) for module in network.modules()] == attributes
    for module in network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks
        assert not module._backward_hooks
    assert all(parameter.grad is None and parameter.requires_grad for parameter in network.parameters())
    assert torch.equal(images, given)
    assert not images.requires_grad


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a2b1", "sensitivity", "deeplift", "smoothgrad"])
def test_it_does_not_matter_whether_gradients_are_off(method, mode, images, targets):
    net = calibrated(vgg(), 32)
    options = QUICK_METHODS.get(method, {})
    want = rapbench.attribute(net, images, targets, method, **options)
    with mode():
        assert torch.equal(rapbench.attribute(net, images * 1, targets * 1, method, **options), want)


@every_method
def test_it_says_what_it_costs_and_which_signs_it_has(method):
    facts = methods[method].facts
    assert facts.passes > 0
    assert set(facts.signs) <= {"positive", "negative"}


def test_unknown_names_and_options_list_the_known_ones(images):
    net = calibrated(vgg(), 32)
    with pytest.raises(
        rapbench.RapbenchError, match=r"unknown method 'rapp' \(did you mean 'rap'\?\); known: .*random"
    ):
        rapbench.attribute(net, images, 1, "rapp")
    with pytest.raises(rapbench.RapbenchError, match=r"has no option 'flows' .*; its options: flow, inversion_sign"):
        rapbench.attribute(net, images, 1, "rap", flows="both")
    with pytest.raises(rapbench.RapbenchError, match="option flow='up': Input should be 'both', 'normal' or"):
        rapbench.attribute(net, images, 1, "rap", flow="up")
    with pytest.raises(rapbench.RapbenchError, match="option steps='many'"):
        rapbench.attribute(net, images, 1, "integrated_gradients", steps="many")


@pytest.mark.parametrize(("targets", "says"), [
    ([0, 1], "targets must be 3 class indices, or one for all, got torch.int64 of shape"),
    ([0.0, 1.0, 2.0], "targets must be 3 class indices, or one for all, got torch.float64"),
    (-1, "target -1 is out of range"),
    (10, "target 10 is out of range: the model has 10 classes"),
])  # fmt: skip
def test_bad_targets_are_named(targets, says, images):
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(calibrated(vgg(), 32), images, targets)


def test_bad_inputs_are_named():
    net = calibrated(vgg(), 32)
    with pytest.raises(rapbench.RapbenchError, match="non-empty floating-point batch"):
        rapbench.attribute(net, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), 1)
    with pytest.raises(rapbench.RapbenchError, match="non-empty floating-point batch"):
        rapbench.attribute(net, torch.zeros(0, 3, 32, 32), 1)


def test_the_gradient_methods_are_the_gradient(network, images, targets):
    x = images.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(network(x).gather(1, targets[:, None]).sum(), x)
    assert torch.equal(rapbench.attribute(network, images, targets, "sensitivity"), gradient.abs())
    torch.testing.assert_close(rapbench.attribute(network, images, targets, "gradient_x_input"), gradient * images)


def test_gradient_times_input_sums_to_the_logit_without_biases(images, targets):
    net = vgg().double().eval()
    for parameter in (p for name, p in net.named_parameters() if name.endswith("bias")):
        parameter.data.zero_()
    relevance = rapbench.attribute(net, images, targets, "gradient_x_input")
    torch.testing.assert_close(relevance.flatten(1).sum(1), net(images).gather(1, targets[:, None])[:, 0].detach())


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_integrated_gradients_are_complete(network, images, targets, baseline):
    images, targets = images[:1], targets[:1]
    options = {"steps": 300, "baseline": baseline}
    relevance = rapbench.attribute(network, images, targets, "integrated_gradients", **options)
    reference = torch.full_like(images, baseline)
    with torch.no_grad():
        rise = (network(images) - network(reference)).gather(1, targets[:, None])[:, 0]
    scale = relevance.abs().flatten(1).sum(1)
    assert ((relevance.flatten(1).sum(1) - rise).abs() < 0.02 * scale).all()


def test_integrated_gradients_do_not_depend_on_how_many_points_share_a_pass(images, targets):
    net = calibrated(vgg(), 32)
    one, other = (
        rapbench.attribute(net, images, targets, "integrated_gradients", steps=10, batch=batch) for batch in (3, 64)
    )
    torch.testing.assert_close(one, other)


def test_random_draws_depend_on_the_image_and_the_seed():
    x = torch.rand(4, 3, 16, 16)
    net = nn.Identity()
    ids = ["a", "b", "c", "d"]
    drawn = rapbench.attribute(net, x, 0, "random", image_ids=ids)
    turned = rapbench.attribute(net, x.flip(0), 0, "random", image_ids=ids[::-1])
    assert torch.equal(turned.flip(0), drawn)
    assert not torch.equal(drawn[0], drawn[1])
    assert not torch.equal(rapbench.attribute(net, x, 0, "random", image_ids=ids, seed=1), drawn)
    by_content = rapbench.attribute(net, x, 0, "random")
    assert torch.equal(rapbench.attribute(net, x[2:3], 0, "random")[0], by_content[2])


def test_random_is_uniform_with_half_the_pixels_of_each_sign():
    heat = rapbench.attribute(nn.Identity(), torch.rand(8, 1, 100, 100), 0, "random")
    assert abs((heat > 0).float().mean() - 0.5) < 0.01
    assert abs(heat.var() - 1 / 3) < 0.01
    assert heat.abs().max() < 1
    assert (heat != 0).all()


def test_sizes_of_image_ids_must_match():
    with pytest.raises(rapbench.RapbenchError, match="1 image_ids for 2 inputs"):
        rapbench.attribute(nn.Identity(), torch.rand(2, 3, 4, 4), 0, "random", image_ids=["a"])
