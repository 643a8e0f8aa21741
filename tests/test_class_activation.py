"""Class activation maps, against their formulas, Captum and torchcam; and the layer that they are of."""

import captum.attr
import pytest
import torch
import torch.nn.functional as F
import torchcam.methods as torchcam
from timm import create_model
from torch import nn
from torchvision.models import SwinTransformer, VisionTransformer

import rapbench
from rapbench.methods.adapters.feature_maps import probed
from tests.conftest import one_of

CAMS = ["grad_cam", "grad_cam_plusplus", "smooth_grad_cam_plusplus", "layer_cam", "xgrad_cam", "score_cam"]


class Small(nn.Module):
    """Maps and weights at hand: relu(conv(x)), its mean, and a linear layer."""

    def __init__(self, dimensions=2):
        super().__init__()
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
        self.conv, self.relu, self.last = kind(3, 4, 3, stride=2), nn.ReLU(), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(self.relu(self.conv(x)).flatten(2).square().mean(2))


def inputs(dimensions=2):
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 3, *[9, 11, 7][:dimensions], dtype=torch.float64, generator=generator)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Small().double().eval()


def maps_and_gradients(net, x, targets):
    maps = net.relu(net.conv(x)).detach().requires_grad_()
    logits = net.last(maps.flatten(2).square().mean(2)).gather(1, targets[:, None]).sum()
    return maps.detach(), torch.autograd.grad(logits, maps)[0]


def large(cam, x):
    mode = ("linear", "bilinear", "trilinear")[x.dim() - 3]
    return F.interpolate(cam[:, None], x.shape[2:], mode=mode).expand_as(x)


TARGETS = torch.tensor([1, 3])


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_grad_cam_is_the_channels_weighted_by_their_mean_gradients(dimensions):
    torch.manual_seed(0)
    net, x = Small(dimensions).double().eval(), inputs(dimensions)
    maps, gradients = maps_and_gradients(net, x, TARGETS)
    weights = gradients.flatten(2).mean(2).view(*maps.shape[:2], *[1] * dimensions)
    want = large((weights * maps).sum(1).relu(), x)
    torch.testing.assert_close(rapbench.attribute(net, x, TARGETS, "grad_cam"), want)


def test_grad_cam_plusplus_is_its_papers_formula_element_by_element(net):
    """Equation (19), with the derivatives of exp(logit) as in its (16) to (18), in which exp(logit) drops out."""
    x = inputs()
    maps, gradients = maps_and_gradients(net, x, TARGETS)
    cam = torch.zeros(2, *maps.shape[2:], dtype=x.dtype)
    for image in range(2):
        for channel in range(4):
            weight = 0.0
            for i in range(maps.shape[2]):
                for j in range(maps.shape[3]):
                    g = gradients[image, channel, i, j]
                    if g != 0:
                        weight += max(g, 0) * g**2 / (2 * g**2 + maps[image, channel].sum() * g**3)
            cam[image] += weight * maps[image, channel]
    torch.testing.assert_close(rapbench.attribute(net, x, TARGETS, "grad_cam_plusplus"), large(cam.relu(), x))


def test_layer_cam_by_hand(net):
    x = inputs()
    maps, gradients = maps_and_gradients(net, x, TARGETS)
    want = large((gradients.relu() * maps).sum(1), x)
    torch.testing.assert_close(rapbench.attribute(net, x, TARGETS, "layer_cam"), want)


@pytest.mark.parametrize(("method", "kind"), [
    ("grad_cam", "GradCAM"), ("layer_cam", "LayerCAM"), ("xgrad_cam", "XGradCAM"), ("score_cam", "ScoreCAM"),
])  # fmt: skip
@pytest.mark.parametrize(("name", "layer"), [("vgg", "4"), ("resnet_basic", "layer3"), ("resnet_basic", "layer2")])
def test_it_is_torchcams(method, kind, name, layer, images, targets):
    network = one_of(name)
    with getattr(torchcam, kind)(network, layer, input_shape=(3, 32, 32)) as extractor:
        scores = network(images)
        (want,) = extractor(targets.tolist(), scores, normalized=False)
    got = rapbench.attribute(network, images, targets, method, layer=layer)
    torch.testing.assert_close(got, large(want, images))
    if layer != "layer2":  # the last feature map
        assert torch.equal(rapbench.attribute(network, images, targets, method), got)


def test_guided_grad_cam_is_captums(images, targets):
    network = one_of("vgg")
    want = captum.attr.GuidedGradCam(network, network[4]).attribute(images, targets, interpolate_mode="bilinear")
    torch.testing.assert_close(rapbench.attribute(network, images, targets, "guided_grad_cam"), want)


def test_smooth_grad_cam_plusplus_without_noise_is_grad_cam_plusplus_and_draws_by_image(net):
    x = inputs()
    still = rapbench.attribute(net, x, TARGETS, "smooth_grad_cam_plusplus", noise=0.0)
    torch.testing.assert_close(still, rapbench.attribute(net, x, TARGETS, "grad_cam_plusplus"))
    state = torch.get_rng_state()
    noisy = rapbench.attribute(net, x, TARGETS, "smooth_grad_cam_plusplus")
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.allclose(noisy, still)
    torch.testing.assert_close(rapbench.attribute(net, x[1:], 3, "smooth_grad_cam_plusplus")[0], noisy[1])


def test_smooth_grad_cam_plusplus_has_the_mean_derivatives_of_its_copies(net):
    """With many copies of little noise it is that of none; with the last copy alone it would not be."""
    x = inputs()
    still = rapbench.attribute(net, x, TARGETS, "grad_cam_plusplus")
    few, many = (
        (rapbench.attribute(net, x, TARGETS, "smooth_grad_cam_plusplus", noise=0.05, samples=samples) - still)
        .abs()
        .max()
        for samples in (1, 100)
    )
    assert many < few / 2


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("method", CAMS)
def test_it_is_of_any_dimensions(method, dimensions):
    torch.manual_seed(0)
    net, x = Small(dimensions).double().eval(), inputs(dimensions)
    together = rapbench.attribute(net, x, TARGETS, method)
    assert together.shape == x.shape
    assert together.min() >= 0
    torch.testing.assert_close(rapbench.attribute(net, x[1:], 3, method)[0], together[1])


def vit():
    torch.manual_seed(0)
    net = VisionTransformer(image_size=32, patch_size=8, num_layers=3, num_heads=2, hidden_dim=16, mlp_dim=32,
                            num_classes=10)  # fmt: skip
    nn.init.normal_(net.heads.head.weight)  # it begins with zeros
    return net.double().eval()


def test_a_transformers_map_is_its_last_blocks_norm_whose_patches_count(images, targets):
    net = vit()
    assert probed(net, images, None, "grad_cam").layer.name == "encoder.layers.encoder_layer_2.ln_1"
    tokens = []
    hook = net.encoder.layers[2].ln_1.register_forward_hook(lambda module, given, output: tokens.append(output))
    logits = net(images.clone().requires_grad_()).gather(1, targets[:, None]).sum()
    hook.remove()
    (gradient,) = torch.autograd.grad(logits, tokens)
    cam = torch.einsum("nc,ntc->nt", gradient[:, 1:].mean(1), tokens[0][:, 1:]).relu().view(3, 4, 4)
    torch.testing.assert_close(rapbench.attribute(net, images, targets, "grad_cam"), large(cam.detach(), images))


def test_a_map_with_channels_last(images, targets):
    torch.manual_seed(0)
    net = SwinTransformer([2, 2], 8, [1, 1], [2, 2], [4, 4], num_classes=10).double().eval()
    assert probed(net, images, None, "grad_cam").layer.channels_last
    maps = net.norm(net.features(images)).detach().requires_grad_()
    logits = net.head(maps.mean((1, 2))).gather(1, targets[:, None]).sum()
    (gradient,) = torch.autograd.grad(logits, maps)
    cam = (gradient.mean((1, 2), keepdim=True) * maps).sum(3).relu().detach()
    torch.testing.assert_close(rapbench.attribute(net, images, targets, "grad_cam"), large(cam, images))


@pytest.mark.parametrize(("name", "layer"), [
    ("resnet18", "layer4"), ("vgg11", "features.19"), ("densenet121", "features"), ("convnext_atto", "norm_pre"),
    ("vit_tiny_patch16_224", "blocks.11.norm1"), ("deit_tiny_distilled_patch16_224", "blocks.11.norm1"),
    ("mobilenetv3_small_050", "blocks"),
])  # fmt: skip
def test_the_last_feature_map_of_known_networks(name, layer):
    torch.manual_seed(0)
    net = create_model(name, pretrained=False).eval()
    assert probed(net, torch.randn(1, 3, 224, 224), None, "grad_cam").layer.name == layer


def test_legrad_is_torchcams(images, targets):
    net = vit()
    with torchcam.LeGrad(net, list(net.encoder.layers)) as extractor:
        net(images)
        (want,) = extractor(targets.tolist(), normalized=False)
    got = rapbench.attribute(net, images, targets, "legrad")
    torch.testing.assert_close(got, large(want, images))
    model = rapbench.Model(net, size=[32, 32])
    torch.testing.assert_close(rapbench.attribute(model, images, targets, "legrad"), got, check_dtype=False)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())


class InPlace(Small):
    def forward(self, x):
        maps = self.conv(x)
        maps = maps.relu_().square()
        return self.last(maps.flatten(2).mean(2))


class Twice(Small):
    def forward(self, x):
        return super().forward(x) + super().forward(2 * x)


class Functional(Small):
    def forward(self, x):
        return self.last(F.conv2d(x, self.conv.weight, stride=2).relu().mean((2, 3)))


def test_what_works_in_place_after_the_layer_does_not_change_its_map(net):
    other = InPlace().double().eval()
    other.load_state_dict(net.state_dict())
    x = inputs()
    got = rapbench.attribute(other, x, TARGETS, "layer_cam", layer="conv")
    torch.testing.assert_close(got, rapbench.attribute(net, x, TARGETS, "layer_cam", layer="conv"))
    assert got.any()


@pytest.mark.parametrize(("kind", "options", "says"), [
    (Small, {"layer": "con"}, r"has no layer 'con' \(did you mean 'conv'\?\)"),
    (Small, {"layer": "last"}, "layer 'last' gives no tensor: no feature map"),
    (Twice, {"layer": "conv"}, r"layer 'conv' gives \(4, 4, 5\) and \(4, 4, 5\) .*called more than once"),
    (Twice, {}, "finds no feature map in Twice: .*name a layer with the option layer"),
    (Functional, {}, "finds no feature map in Functional"),
])  # fmt: skip
@pytest.mark.parametrize("method", ["grad_cam", "xgrad_cam"])
def test_where_there_is_no_map_a_line_says_so(method, kind, options, says):
    net = kind().double().eval()
    with pytest.raises(rapbench.RapbenchError, match=says) as raised:
        rapbench.attribute(net, inputs(), TARGETS, method, **options)
    assert len(str(raised.value).splitlines()) == 1
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize("method", CAMS)
def test_inputs_without_positions_are_refused(method):
    with pytest.raises(rapbench.RapbenchError, match=f"{method} needs images of one to three dimensions"):
        rapbench.attribute(nn.Linear(4, 2), torch.rand(2, 4), 0, method)
