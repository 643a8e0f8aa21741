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

import rapbench
from rapbench import RapbenchError, attribute
from rapbench.relevance import images
from rapbench.relevance.attnlrp import ATTNLRP
from rapbench.relevance.composites import Composite, assigned
from rapbench.relevance.engine import propagate, ready
from rapbench.relevance.lrp import NETWORKS as NETS
from rapbench.relevance.lrp_rules import Epsilon
from rapbench.relevance.operations import ACTIVATIONS, MatMul
from rapbench.relevance.rules import Flow, Step
from tests.options import PROPAGATED, mostly_quick

EPSILON = {"convolution": Epsilon(0.0), "dense": Epsilon(0.0)}


def timm_model(name: str, **keywords) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, num_classes=7, **keywords)


def convnext() -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    return ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], layer_scale=0.5, num_classes=7)


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=7)


def swin_v2() -> nn.Module:
    from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2

    blocks = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return torchvision.models.SwinTransformer([4, 4], 8, [2, 2], [2, 4], [4, 4], num_classes=7, **blocks)


def vision_transformer() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 16, 32, num_classes=7)


SMALL = {"img_size": 32, "depth": 2, "embed_dim": 16, "num_heads": 2}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "vit": vision_transformer,
    "swin": swin,
    "swin v2": swin_v2,
    "convnext": convnext,
    "timm vit": timm_model("vit_tiny_patch16_224", patch_size=8, **SMALL),
    "timm deit, distilled": timm_model("deit_tiny_distilled_patch16_224", patch_size=8, **SMALL),
    "timm deit3": timm_model("deit3_small_patch16_224", patch_size=8, **SMALL),
    "timm swin": timm_model("swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=8, depths=(2, 2),
                            num_heads=(2, 4)),
    "timm convnextv2": timm_model("convnextv2_atto", depths=(1,) * 4, dims=(8, 8, 16, 16)),
    "timm mobilenetv4": timm_model("mobilenetv4_conv_small"),
}  # fmt: skip
ATTENTIVE = ("vit", "swin", "swin v2", "timm vit", "timm deit, distilled", "timm deit3", "timm swin")


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
            ratio = torch.where(z == 0, 0, self.activation(z.clone()) / z)  # it may work in place
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

    attention_only = False  # activations and norms are not changed

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
        if self.attention_only:
            return function(*args, **kwargs)
        if function is F.gelu:
            z = args[0]
            return z * (function(z) / z).detach()
        if function is F.normalize:  # as of a cosine in Swin V2
            return args[0] / args[0].detach().square().sum(kwargs["dim"], keepdim=True).sqrt().clamp(min=1e-12)
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
    relevance, _ = propagate(prepared, x, targets, composite, {"single": 1})
    return relevance


def apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max())


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "timm mobilenetv4"])
def test_lrp_is_gradient_times_input_of_constant_attention_and_statistics(name):
    network, (x, targets) = made(name), batch()
    relevance = exact_lrp(network, x, targets)
    assert apart(relevance, gradient_times_input(network, x, targets)) < 1e-8


@pytest.mark.parametrize("name", ATTENTIVE)
def test_attnlrp_is_gradient_times_input_with_products_shared_by_half(name):
    network, (x, targets) = made(name), batch()
    relevance = exact_lrp(network, x, targets, attention="attnlrp")
    assert apart(relevance, gradient_times_input(network, x, targets, halved=True)) < 1e-8


QUICK = ("vit", "swin", "convnext")


@pytest.mark.parametrize("method", mostly_quick(PROPAGATED))
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_every_layer_conserves_relevance_and_images_do_not_mix(name, method):
    network, (x, targets) = made(name), batch(2)
    network = rapbench.Model(network, mean=(0.5,) * 3, std=(0.25,) * 3, size=32).double()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    balance: list[rapbench.relevance.Balance] = []
    relevance = attribute(network, x, targets, method, balance=balance)
    assert relevance.isfinite().all()
    for entry in balance:
        missing = entry.relevance_out - entry.relevance_in - entry.dropped
        assert (missing.abs() <= 1e-9 * entry.total.clamp(min=1e-12)).all(), entry.place
    assert apart(attribute(network, x, targets, method), relevance) < 1e-9
    alone = attribute(network, x[1:], targets[1:], method)
    assert apart(relevance[1:], alone) < 1e-9
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_a1b0", "attnlrp", "rap"])
def test_blocks_of_images_give_what_the_batch_gives(method, monkeypatch):
    network, (x, targets) = made("swin"), batch(5)
    whole = attribute(network, x, targets, method)
    monkeypatch.setattr(images, "CACHED", 60_000)
    assert apart(attribute(network, x, targets, method), whole) < 1e-12


def test_scaling_the_input_of_a_norm_changes_nothing():
    class PreNorm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.norm, self.last = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 3)
            self.scale = 1.0

        def forward(self, x: Tensor) -> Tensor:
            tokens = self.first(x).flatten(2).transpose(1, 2) * self.scale
            return self.last(self.norm(tokens).mean(1))

    torch.manual_seed(0)
    network, (x, targets) = PreNorm().double().eval(), batch()
    network.norm.eps = 0.0
    sums = []
    for scale in (1.0, 1e3):
        network.scale = scale
        balance: list[rapbench.relevance.Balance] = []
        attribute(network, x, targets % 3, "lrp_epsilon", stabilizer=0.0, balance=balance)
        sums += [entry.relevance_in for entry in balance if entry.place == "norm"]
    torch.testing.assert_close(sums[0], sums[1], rtol=1e-4, atol=0)


def test_attnlrps_softmax_and_product_by_hand():
    """One query, two keys: R_x = x (R - s sum R) and half of a product's share to each factor."""
    x, s = torch.tensor([[[[1.0, 2.0]]]]).double(), torch.tensor([[[[1.0, 2.0]]]]).double().softmax(-1)
    relevance = torch.tensor([[[[0.3, 0.5]]]]).double()
    step = Step(nn.Softmax(-1), (x,), False, Composite(stabilizer=0.0))
    (found,) = next(iter(ATTNLRP[nn.Softmax](step, [Flow(relevance.clone(), 1)])))
    expected = [1 * (0.3 - s[..., 0] * 0.8), 2 * (0.5 - s[..., 1] * 0.8)]
    torch.testing.assert_close(found, torch.stack(expected, -1))
    v = torch.tensor([[[[3.0], [4.0]]]]).double()
    step = Step(MatMul(), (s, v), False, Composite(stabilizer=0.0))
    left, right = next(iter(ATTNLRP[MatMul](step, [Flow(torch.full((1, 1, 1, 1), 2.0).double(), 1)])))
    z = torch.stack([s[..., 0] * 3, s[..., 1] * 4], -1)
    torch.testing.assert_close(left, z / z.sum() / 2 * 2)
    torch.testing.assert_close(right, (z / z.sum() / 2 * 2).transpose(-2, -1))


def test_queries_keys_and_values_of_one_layer_are_three():
    """RAP's correction for biases has the same units, whether a layer computes the values alone or with others."""

    class Self(nn.Module):
        fused = True

        def __init__(self) -> None:
            super().__init__()
            self.first, self.qkv, self.last = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 24), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).flatten(2).transpose(1, 2)
            if self.fused:
                q, k, v = self.qkv(x).reshape(x.shape[0], x.shape[1], 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
            else:
                parts = [slice(start, start + 8) for start in (0, 8, 16)]
                q, k, v = (
                    F.linear(x, self.qkv.weight[part], self.qkv.bias[part]).view(-1, 16, 2, 4).transpose(1, 2)
                    for part in parts
                )
            return self.last((q @ k.transpose(-2, -1)).softmax(-1).matmul(v).transpose(1, 2).flatten(2).mean(1))

    torch.manual_seed(0)
    network, (x, targets) = Self().double().eval(), batch()
    fused = attribute(network, x, targets % 3, "rap")
    apart_network = copy.deepcopy(network)
    apart_network.fused = False
    assert apart(attribute(apart_network, x, targets % 3, "rap"), fused) < 1e-9


@pytest.mark.parametrize(("name", "operation"), [("gated", "mul"), ("linear attention", "MatMul"), ("window", "keep")])
def test_what_has_no_rule_is_refused_by_name(name, operation):
    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 3)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).flatten(2).transpose(1, 2)
            if name == "gated":
                x = x * F.silu(x)
            elif name == "linear attention":
                x = x @ (x.transpose(1, 2) @ x)
            else:
                x = self.last(x.permute(1, 0, 2)).permute(1, 0, 2)
                return x.mean(1)
            return self.last(x.mean(1))

    network, (x, targets) = Other().double().eval(), batch(3)
    with pytest.raises(RapbenchError, match=operation):
        attribute(network, x, targets % 3, "rap")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", ["rap", "attnlrp", "chefer"])
def test_half_precision_is_explained_in_float32(method, dtype):
    network, (x, targets) = made("vit", torch.float32).to(dtype), batch(2, torch.float32)
    expected = attribute(copy.deepcopy(network).float(), x, targets, method)
    assert torch.equal(attribute(network, x, targets, method), expected)


@pytest.mark.parametrize("name", ["vit", "timm vit", "timm deit3", "timm deit, distilled"])
def test_rollout_and_chefer_are_their_formulas(name):
    network, (x, targets) = made(name), batch(2)
    attention = watched_attention(network, x, targets)
    tokens = attention[0][0].shape[-1]
    identity = torch.eye(tokens).double()
    rolled, taken = identity.expand(2, -1, -1), identity.expand(2, -1, -1)
    for weights, gradient in attention:
        mixed = 0.5 * weights.mean(1) + 0.5 * identity
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
        taken = taken + (weights * gradient).clamp(min=0).mean(1) @ taken
    rows = slice(0, 2) if "distilled" in name else slice(0, 1)
    for method, matrix in (("attention_rollout", rolled), ("chefer", taken)):
        small = matrix[:, rows, -16:].mean(1).view(2, 1, 4, 4)
        expected = F.interpolate(small, (32, 32), mode="bilinear").expand(-1, 3, -1, -1)
        assert apart(attribute(network, x, targets, method), expected) < 1e-9


def watched_attention(network: nn.Module, x: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return each block's attention and its gradient, by watching a network's own softmax."""
    seen: list[Tensor] = []

    class Watch(Watched):
        attention_only = True

        def weights(self, softmax: Tensor) -> Tensor:
            seen.append(softmax)
            return softmax

    with Watch(halved=False):
        logits = network(x.clone().requires_grad_())
    gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), seen)
    return [(weights.detach(), gradient) for weights, gradient in zip(seen, gradients, strict=True)]


def test_a_bias_that_a_forward_keeps_in_a_dictionary_does_no_harm_to_the_next_graph():
    class Keeping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 8, 8), nn.Linear(8, 3)
            self.bias, self.kept, self.order = nn.Parameter(torch.randn(16, 16)), {}, []

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x).flatten(2).transpose(1, 2)
            if "bias" not in self.kept:
                self.kept["bias"] = self.bias * 2
                self.order.append(self.kept["bias"])
            return self.last(((x @ x.transpose(1, 2) + self.order[0]).softmax(-1) @ x).mean(1))

    network, (x, targets) = Keeping().double().eval(), batch()
    relevance = [attribute(network, x, targets % 3, method) for method in ("rap", "lrp_epsilon", "attnlrp", "rap")]
    assert torch.equal(relevance[0], relevance[-1])
    assert all(isinstance(value, Tensor) for value in (*network.kept.values(), *network.order))
