"""Normalisations with the sample's own statistics, as linear maps: their standard deviation counts as a constant."""

from typing import Any

import torch
from timm.layers import RmsNorm, RmsNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

from rapbench.relevance.operations import Normalize


def with_constant_deviation(norm: nn.Module, x: Tensor) -> Tensor:
    """Return norm(x) with what it divides by detached from the graph; the mean is a part of it [ali2022xai].

    norm: one of `operations.SAMPLE_NORMS`; x: (rows, ...).
    """
    module: Any = norm
    if isinstance(norm, GlobalResponseNorm):
        scale = module.weight.view(module.wb_shape) * _response(module, x.detach())
        response: Tensor = x + (x * scale + module.bias.view(module.wb_shape))
        return response
    if isinstance(norm, Normalize):
        length = torch.linalg.vector_norm(x.detach(), dim=norm.dim, keepdim=True)
        unit: Tensor = x / length.clamp(min=norm.eps)
        return unit
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    if isinstance(norm, (nn.LayerNorm, nn.RMSNorm, RmsNorm, RmsNorm2d)):
        dims = tuple(range(x.dim() - len(module.normalized_shape), x.dim()))
        if isinstance(norm, RmsNorm2d):
            dims = (1,)
            weight = None if weight is None else weight.view(-1, 1, 1)
        if not isinstance(norm, nn.LayerNorm):
            eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
            value = x * (x.detach().square().mean(dims, keepdim=True) + eps).rsqrt()
        else:
            value = _standard(x, dims, module.eps)
    else:
        count = module.num_groups if isinstance(norm, nn.GroupNorm) else x.shape[1]
        ones = [1] * (x.dim() - 2)
        if getattr(module, "running_mean", None) is not None:  # an instance norm in eval mode that keeps them
            deviation = (module.running_var + module.eps).sqrt().view(-1, *ones)
            value = (x - module.running_mean.view(-1, *ones)) / deviation
        else:
            grouped = x.reshape(len(x), count, -1)
            value = _standard(grouped, (2,), module.eps).reshape(x.shape)
        weight, bias = (None if part is None else part.view(-1, *ones) for part in (weight, bias))
    value = value if weight is None else value * weight
    result: Tensor = value if bias is None else value + bias
    return result


def offset(norm: nn.Module, x: Tensor) -> Tensor | None:
    """Return what a norm adds whatever the input is, shaped to broadcast; None for nothing."""
    module: Any = norm
    bias: Tensor | None = getattr(module, "bias", None)
    if isinstance(norm, GlobalResponseNorm):
        shift: Tensor = module.bias.view(module.wb_shape)
        return shift
    if bias is not None and not isinstance(norm, nn.LayerNorm):
        bias = bias.view(-1, *[1] * (x.dim() - 2))
    if getattr(module, "running_mean", None) is not None:
        ones = [1] * (x.dim() - 2)
        scale = (module.running_var + module.eps).rsqrt() * (1 if module.weight is None else module.weight)
        shift = (-module.running_mean * scale).view(-1, *ones)
        return shift if bias is None else shift + bias
    return bias


def _standard(x: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    variance = x.detach().var(dims, unbiased=False, keepdim=True)
    return (x - x.mean(dims, keepdim=True)) * (variance + eps).rsqrt()


def _response(norm: Any, x: Tensor) -> Tensor:
    size = x.norm(p=2, dim=norm.spatial_dim, keepdim=True)
    response: Tensor = size / (size.mean(dim=norm.channel_dim, keepdim=True) + norm.eps)
    return response
