"""RAP through one block of a transformer, of Swin and of ConvNeXt, against its formulas written out densely."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock
from torchvision.models.swin_transformer import SwinTransformerBlock
from torchvision.models.vision_transformer import EncoderBlock

from rapbench import attribute

SIDE, CHANNELS, CLASSES, HEADS, WINDOW = 8, 4, 3, 2, 4
TOKENS = (SIDE // 2) ** 2


class Net(nn.Module):
    """Patches, a block of (N, H, W, C), their mean and a last layer."""

    def __init__(self, block: nn.Module, kind: str):
        super().__init__()
        stride = 1 if kind == "swin" else 2
        self.patches, self.block, self.kind = nn.Conv2d(3, CHANNELS, stride, stride), block, kind
        self.last = nn.Linear(CHANNELS, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x)
        if self.kind == "convnext":
            return self.last(self.block(x).mean((2, 3)))
        x = x.permute(0, 2, 3, 1)
        x = self.block(x.flatten(1, 2)) if self.kind == "vit" else self.block(x).flatten(1, 2)
        return self.last(x.mean(1))


def net(kind: str) -> Net:
    torch.manual_seed(1)
    blocks: dict[str, Callable[[], nn.Module]] = {
        "vit": lambda: EncoderBlock(HEADS, CHANNELS, 6, 0.0, 0.0),
        "swin": lambda: SwinTransformerBlock(CHANNELS, HEADS, [WINDOW] * 2, [WINDOW // 2] * 2, 1.5),
        "convnext": lambda: CNBlock(CHANNELS, 0.5, 0.0),
    }
    network = Net(blocks[kind](), kind).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def matrix(function: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """Return a linear function of an array as a dense matrix, (outputs, inputs)."""
    size = torch.Size(shape).numel()
    return torch.stack([function(unit.view(shape)).flatten() for unit in torch.eye(size).double()], 1)


def through(w: Tensor, m: Tensor, relevance: Tensor, kappa: int) -> Tensor:
    """(7) and (8), jointly for both signs of m: the products of one sign share the relevance."""
    z = w * m.flatten()
    z = z.clamp(min=0) if kappa > 0 else z.clamp(max=0)
    total = z.sum(1, keepdim=True)
    shares = torch.where(total != 0, z / total, 0)
    return (shares * relevance.flatten()[:, None]).sum(0).view(m.shape)


def share(z: Tensor) -> Tensor:
    return torch.where(z.sum() != 0, z / z.sum(), 0)


def bias(relevance: Tensor, b: Tensor, kappa: int, axis: int = -1) -> Tensor:
    """(10): R - kappa (b - mean(b)) / area, b along an axis."""
    shape = [1] * relevance.dim()
    shape[axis] = -1
    return relevance - kappa * ((b - b.mean()) / (relevance.numel() // len(b))).view(shape)


def norm(relevance: Tensor, z: Tensor, layer: nn.LayerNorm, kappa: int) -> Tensor:
    """(11) with the sample's own statistics, by its formula; z: (..., channels)."""
    deviation = (z.var(-1, unbiased=False, keepdim=True) + layer.eps).sqrt()
    shift = (z - z.mean(-1, keepdim=True)) / deviation * layer.weight + layer.bias - z
    shift = torch.where(relevance != 0, shift, 0)
    return relevance - kappa * (shift - shift.mean()) / shift.numel()


def dense(layer: nn.Linear, m: Tensor, relevance: Tensor, kappa: int) -> Tensor:
    """A fully connected layer of (tokens, channels)."""
    return through(matrix(lambda x: x @ layer.weight.T, m.shape), m, bias(relevance, layer.bias, kappa), kappa)


def attention(weights: Tensor, values: Tensor, relevance: Tensor, kappa: int) -> Tensor:
    """weights: (heads, tokens, tokens); values and relevance: (tokens, channels), the channels of one head together."""

    def apply(v: Tensor) -> Tensor:
        parts = v.unflatten(-1, (HEADS, -1))
        return torch.stack([weights[h] @ parts[:, h] for h in range(HEADS)], 1).flatten(1)

    return through(matrix(apply, values.shape), values, relevance, kappa)


def scores(tokens: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return attention's scores, (heads, tokens, tokens), and its values, (tokens, channels)."""
    q, k, v = (tokens @ w.T + b).chunk(3, -1)
    q, k = (x.unflatten(-1, (HEADS, -1)) for x in (q, k))
    return torch.einsum("thd,shd->hts", q, k) / (CHANNELS // HEADS) ** 0.5, v


def vit_block(block: EncoderBlock, x: Tensor, kappa: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    mha = block.self_attention
    normed = block.ln_1(x)
    found, v = scores(normed, mha.in_proj_weight, mha.in_proj_bias)
    values = nn.Linear(CHANNELS, CHANNELS).double()
    values.weight.data, values.bias.data = mha.in_proj_weight[2 * CHANNELS :], mha.in_proj_bias[2 * CHANNELS :]
    return attended(block.ln_1, block.ln_2, found.softmax(-1), v, values, mha.out_proj, block.mlp[0], block.mlp[3],
                    x, kappa)  # fmt: skip


def swin_block(block: SwinTransformerBlock, x: Tensor, kappa: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    layer = block.attn
    found, v = scores(block.norm1(x), layer.qkv.weight, layer.qkv.bias)
    inside = torch.full_like(found, -torch.inf)
    shift = WINDOW // 2
    cells = [divmod(number, SIDE) for number in range(SIDE**2)]
    moved = [((row - shift) % SIDE, (column - shift) % SIDE) for row, column in cells]  # rolled up and to the left

    def part(one: int) -> int:  # what the roll brought together from other sides does not see each other
        return 0 if one < SIDE - WINDOW else 1 if one < SIDE - shift else 2

    for t, (row, column) in enumerate(moved):
        for s, (below, beside) in enumerate(moved):
            same = (row // WINDOW, column // WINDOW) == (below // WINDOW, beside // WINDOW)
            if same and (part(row), part(column)) == (part(below), part(beside)):
                place = (row - below + WINDOW - 1) * (2 * WINDOW - 1) + column - beside + WINDOW - 1
                inside[:, t, s] = found[:, t, s] + layer.relative_position_bias_table[place]
    values = nn.Linear(CHANNELS, CHANNELS).double()
    values.weight.data, values.bias.data = layer.qkv.weight[2 * CHANNELS :], layer.qkv.bias[2 * CHANNELS :]
    return attended(block.norm1, block.norm2, inside.softmax(-1), v, values, layer.proj, block.mlp[0], block.mlp[3],
                    x, kappa)  # fmt: skip


def attended(first, second, weights, v, values, last, up, down, x, kappa) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Return x + attention, that + MLP; and the way back. x: (tokens, channels)."""
    joined = attention_of(weights, v)
    a = joined @ last.weight.T + last.bias
    y = x + a
    hidden = F.gelu(second(y) @ up.weight.T + up.bias)
    b = hidden @ down.weight.T + down.bias

    def back(relevance: Tensor) -> Tensor:
        own, branch = relevance * y / (y + b), relevance * b / (y + b)
        branch = dense(up, second(y), dense(down, hidden, branch, kappa), kappa)
        relevance = own + norm(branch, y, second, kappa)
        own, branch = relevance * x / y, relevance * a / y
        branch = attention(weights, v, dense(last, joined, branch, kappa), kappa)
        return own + norm(dense(values, first(x), branch, kappa), x, first, kappa)

    return y + b, back


def attention_of(weights: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("hts,shd->thd", weights, v.unflatten(-1, (HEADS, -1))).flatten(1)


def convnext_block(block: CNBlock, x: Tensor, kappa: int) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """x: (channels, H, W)."""
    convolution, _, layer, up, _, down, _ = block.block
    z = convolution(x[None])[0].permute(1, 2, 0)
    tokens = layer(z).flatten(0, 1)
    hidden = F.gelu(up(tokens))
    b = (down(hidden) * block.layer_scale.flatten()).T.view(x.shape)

    def back(relevance: Tensor) -> Tensor:
        own, branch = relevance * x / (x + b), relevance * b / (x + b)
        branch = dense(up, tokens, dense(down, hidden, branch.flatten(1).T, kappa), kappa)
        branch = bias(norm(branch.view(z.shape), z, layer, kappa).permute(2, 0, 1), convolution.bias, kappa, 0)
        w = matrix(lambda x: F.conv2d(x[None], convolution.weight, None, 1, 3, 1, CHANNELS), x.shape)
        return own + through(w, x, branch, kappa)

    return x + b, back


def rap_by_hand(network: Net, image: Tensor, target: int, flow: int) -> Tensor:
    """Return one flow's relevance of an image (3, H, W)."""
    maps = network.patches(image[None])[0]
    if network.kind == "convnext":
        out, back = convnext_block(network.block, maps, flow)
        out, flat = out.flatten(1).T, lambda tokens: tokens.T.view(maps.shape)
    else:
        block = vit_block if network.kind == "vit" else swin_block
        out, back = block(network.block, maps.flatten(1).T, flow)
        flat = None
    pooled = out.mean(0)
    z = network.last.weight[target] * pooled
    logit = z.sum() + network.last.bias[target]
    seed = (share(z.clamp(min=0)) - share(z.clamp(max=0))) * logit
    relevance = out / out.sum(0) * seed
    relevance = back(flat(relevance)) if flat else back(relevance).T.view(maps.shape)
    relevance = bias(relevance, network.patches.bias, flow, 0)
    low, high = image.min(), image.max()
    w = matrix(lambda x: F.conv2d(x[None], network.patches.weight, None, network.patches.stride), image.shape)
    q = w * image.flatten() - low * w.clamp(min=0) - high * w.clamp(max=0)
    return (q / q.sum(1, keepdim=True) * relevance.flatten()[:, None]).sum(0).view(image.shape)


@pytest.mark.parametrize("kind", ["vit", "swin", "convnext"])
@torch.no_grad()
def test_rap_through_a_block_is_its_formulas(kind):
    network = net(kind)
    images = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    for flow, kappa in (("normal", 1), ("inversion", -1)):
        relevance = attribute(network, images, torch.tensor([1, 2]), "rap", flow=flow)
        for found, image, target in zip(relevance, images, (1, 2), strict=True):
            expected = rap_by_hand(network, image, target, kappa)
            assert (found - expected).abs().max() <= 1e-9 * expected.abs().max()
