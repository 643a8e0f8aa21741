"""Relevance through attention, sample norms, position embeddings and class tokens."""

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import timm
import torch
import torch.nn.functional as F
import torchvision
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

from rapbench.relevance.composites import assigned
from rapbench.relevance.engine import propagate, ready
from rapbench.relevance.lrp import NETWORKS as NETS
from rapbench.relevance.lrp_rules import Epsilon
from rapbench.relevance.operations import ACTIVATIONS

EPSILON = {"convolution": Epsilon(0.0), "dense": Epsilon(0.0)}


def timm_model(name: str, **keywords) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=7, **keywords)


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], layer_scale=0.5, num_classes=7)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=7)


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=7)


SMALL = {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vision_transformer,
    "swin": swin,
    "convnext": convnext,
    "timm vit": timm_model("vit_tiny_patch16_224", patch_size=8, **SMALL),
    "timm deit, distilled": timm_model("deit_tiny_distilled_patch16_224", patch_size=8, **SMALL),
    "timm deit3": timm_model("deit3_small_patch16_224", patch_size=8, **SMALL),
    "timm swin": timm_model("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(2, 2),
                            num_heads=(2, 4)),
    "timm convnextv2": timm_model("convnextv2_atto", depths=(1,) * 4, dims=(8, 8, 16, 16)),
    "timm mobilenetv4": timm_model("mobilenetv4_conv_small"),
    "timm efficientnetv2": timm_model("efficientnetv2_rw_t", channel_multiplier=0.25, depth_multiplier=0.25),
}  # fmt: skip
ATTENTIVE = ("vit", "swin", "timm vit", "timm deit, distilled", "timm deit3", "timm swin")


def made(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network with no parameter 0 or 1, so that each counts."""
    torch.manual_seed(3)
    network = NETWORKS[name]().eval().to(dtype)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def batch(count: int = 3, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, 3, 32, 32, generator=generator, dtype=dtype), torch.arange(count) % 7


class Ratio(nn.Module):
    """An activation as its input times the detached ratio of output and input."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = activation

    def forward(self, z: Tensor) -> Tensor:
        with torch.no_grad():
            ratio = torch.where(z == 0, 0, self.activation(z) / z)
        return z * ratio


class Response(nn.Module):
    """ConvNeXt V2's global response norm, its response detached."""

    def __init__(self, norm: GlobalResponseNorm):
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        channels = self.norm.channel_dim
        size = x.detach().square().sum(self.norm.spatial_dim, keepdim=True).sqrt()
        response = size / (size.mean(channels, keepdim=True) + self.norm.eps)
        weight, bias = (p if channels == -1 else p.view(-1, 1, 1) for p in (self.norm.weight, self.norm.bias))
        return x + x * response * weight + bias


def layer_norm(x: Tensor, shape, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    mean = x.mean(-1, keepdim=True)
    deviation = (x - mean).square().mean(-1, keepdim=True).add(eps).sqrt().detach()
    return (x - mean) / deviation * weight + bias


class Watched(torch.overrides.TorchFunctionMode):
    """Detaches attention's weights, or halves the gradient of both factors of its products."""

    def __init__(self, halved: bool):
        super().__init__()
        self.halved = halved

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is F.scaled_dot_product_attention:
            q, k, v = args[:3]
            scores = self.product(q * q.shape[-1] ** -0.5, k.transpose(-2, -1))
            return self.product(self.weights(scores.softmax(-1)), v)
        if function is F.multi_head_attention_forward:
            return self.multihead(*args, **kwargs)
        if function in (torch.softmax, F.softmax, Tensor.softmax):
            with torch._C.DisableTorchFunction():
                return self.weights(function(*args, **kwargs))
        if function in (torch.matmul, Tensor.matmul, Tensor.__matmul__):
            return self.product(*args)
        if function is F.gelu:
            z = args[0]
            return z * (function(z) / z).detach()
        if function is F.layer_norm:
            return layer_norm(*args, **kwargs)
        return function(*args, **kwargs)

    def weights(self, softmax: Tensor) -> Tensor:
        return softmax if self.halved else softmax.detach()

    def product(self, a: Tensor, b: Tensor) -> Tensor:
        with torch._C.DisableTorchFunction():
            value = a @ b
            return value.lerp(value.detach(), 0.5) if self.halved else value

    def multihead(self, query, key, value, size, heads, w, b, *others, **keywords):
        q, k, v = (F.linear(query, part, bias) for part, bias in zip(w.chunk(3), b.chunk(3), strict=True))
        tokens, count = q.shape[:2]
        q, k, v = (x.view(tokens, count, heads, -1).permute(1, 2, 0, 3) for x in (q, k, v))
        scores = self.product(q * (size // heads) ** -0.5, k.transpose(-2, -1))
        joined = self.product(self.weights(scores.softmax(-1)), v).permute(2, 0, 1, 3).reshape(tokens, count, size)
        return F.linear(joined, others[4], others[5]), None


def gradient_times_input(network: nn.Module, x: Tensor, targets: Tensor, *, halved: bool = False) -> Tensor:
    """Return gradient times input of a copy whose activations are ratios, deviations and attention constants."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) in ACTIVATIONS:
                setattr(module, name, Ratio(child))
            elif isinstance(child, GlobalResponseNorm):
                setattr(module, name, Response(child))
    x = x.clone().requires_grad_()
    with Watched(halved):
        logits = network(x)
    return x.detach() * torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), x)[0]


def exact_lrp(network: nn.Module, x: Tensor, targets: Tensor, attention: str = "constant") -> Tensor:
    """Return relevance by the epsilon rule with an epsilon of 0 in every denominator."""
    prepared = ready(network, x, NETS[attention])
    composite = replace(assigned(prepared, network, x, EPSILON), stabilizer=0.0)
    return propagate(prepared, x, targets, composite, {"single": 1})


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("timm mobilenetv4", "timm efficientnetv2")])
def test_lrp_is_gradient_times_input_of_constant_attention_and_statistics(name):
    network, (x, targets) = made(name), batch()
    relevance = exact_lrp(network, x, targets)
    assert apart(relevance, gradient_times_input(network, x, targets)) < 1e-8


@pytest.mark.parametrize("name", ATTENTIVE)
def test_attnlrp_is_gradient_times_input_with_products_shared_by_half(name):
    network, (x, targets) = made(name), batch()
    relevance = exact_lrp(network, x, targets, attention="attnlrp")
    assert apart(relevance, gradient_times_input(network, x, targets, halved=True)) < 1e-8
