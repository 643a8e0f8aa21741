"""Which module does what a function or method of torch does: a graph's calls become calls of these."""

import operator
from collections.abc import Callable
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import stochastic_depth

from rapbench.relevance.operations import (
    ACTIVATIONS,
    Add,
    BatchNorm,
    Cat,
    Constant,
    Gate,
    Interpolate,
    MatMul,
    Mean,
    Normalize,
    Pad,
    Share,
    Sum,
    of_every_unit,
)


def _like(module: type[nn.Module]) -> Callable[..., nn.Module]:
    """For functions whose arguments after the input are the module's, in its order."""
    return lambda input, *arguments, **keywords: module(*arguments, **keywords)


def _max_pool(dimensions: int) -> Callable[..., nn.Module]:
    def build(input: Any, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
              ceil_mode: bool = False, return_indices: bool = False) -> nn.Module:  # fmt: skip
        _only(not return_indices)
        pool = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[dimensions - 1]
        return pool(kernel_size, stride, padding, dilation, ceil_mode=ceil_mode)

    return build


def _adaptive_max_pool(dimensions: int) -> Callable[..., nn.Module]:
    def build(input: Any, output_size: Any, return_indices: bool = False) -> nn.Module:
        _only(not return_indices)
        return (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)[dimensions - 1](output_size)

    return build


def _only(fits: bool) -> None:
    """Raise ValueError where a module would not do what the call does."""
    if not fits:
        raise ValueError("no module does the same")


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> nn.Module:
    _only(not training or p == 0)
    return nn.Identity()


def _stochastic_depth(input: Any, p: float, mode: str, training: bool = True) -> nn.Module:
    return _dropout(input, p, training)


def _not_over_batch(dim: Any) -> bool:
    dimensions = dim if isinstance(dim, (tuple, list)) else [dim]
    return bool(dimensions) and all(isinstance(one, int) and one != 0 for one in dimensions)


def _over(module: type[Mean]) -> Callable[..., nn.Module]:
    def build(input: Any, dim: Any, keepdim: bool = False) -> nn.Module:
        _only(_not_over_batch(dim))
        return module(dim, keepdim)

    return build


def _cat(tensors: Any, dim: int = 0) -> nn.Module:
    constants = {place: tensor for place, tensor in enumerate(tensors) if not isinstance(tensor, torch.fx.Node)}
    return Cat(dim, constants)


def _batch_norm(input: Any, mean: Tensor, var: Tensor, weight: Tensor | None = None, bias: Tensor | None = None,
                training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> nn.Module:  # fmt: skip
    _only(not training and mean is not None and var is not None)
    norm = BatchNorm(len(mean), eps, affine=False)
    norm.running_mean, norm.running_var = mean, var
    if weight is not None or bias is not None:
        norm.affine = True
        norm.weight = nn.Parameter(torch.ones_like(mean) if weight is None else weight, False)
        norm.bias = nn.Parameter(torch.zeros_like(mean) if bias is None else bias, False)
    return norm


def _softmax(input: Any, dim: int | None = None, _stacklevel: int = 3, dtype: Any = None) -> nn.Module:
    _only(dtype is None and dim is not None)
    return nn.Softmax(dim)


def _layer_norm(input: Any, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None,
                eps: float = 1e-5) -> nn.Module:  # fmt: skip
    return _with(nn.LayerNorm(tuple(normalized_shape), eps, elementwise_affine=False), weight, bias)


def _rms_norm(input: Any, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> nn.Module:
    return _with(nn.RMSNorm(tuple(normalized_shape), eps, elementwise_affine=False), weight, None)


def _normalize(input: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> nn.Module:
    _only(p == 2 and out is None and _not_over_batch(dim))
    return Normalize(dim, eps)


def _group_norm(input: Any, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None,
                eps: float = 1e-5) -> nn.Module:  # fmt: skip
    _only(weight is not None)  # which tells the number of channels
    assert weight is not None
    return _with(nn.GroupNorm(num_groups, len(weight), eps, affine=False), weight, bias)


def _sum(input: Any, other: Any, *, alpha: Any = 1) -> nn.Module:
    module = _binary(operator.add, Add)(input, other, alpha=alpha)
    if isinstance(module, Constant) and isinstance(module.constant, Tensor) and of_every_unit(module.constant):
        return Share(module.constant)
    return module


def _prelu(input: Any, weight: Tensor) -> nn.Module:
    module = nn.PReLU(weight.numel(), device="meta")
    module.weight = nn.Parameter(weight, False)
    return module


def _linear(input: Any, weight: Tensor, bias: Tensor | None = None) -> nn.Module:
    module = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    return _with(module, weight, bias)


def _convolution(kind: type[Any]) -> Callable[..., nn.Module]:
    def build(input: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
              dilation: Any = 1, groups: int = 1) -> nn.Module:  # fmt: skip
        module = kind(weight.shape[1] * groups, weight.shape[0], tuple(weight.shape[2:]), stride, padding, dilation,
                      groups, device="meta")  # fmt: skip
        return _with(module, weight, bias)

    return build


def _transposed(kind: type[Any]) -> Callable[..., nn.Module]:
    def build(input: Any, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
              output_padding: Any = 0, groups: int = 1, dilation: Any = 1) -> nn.Module:  # fmt: skip
        module = kind(weight.shape[0], weight.shape[1] * groups, tuple(weight.shape[2:]), stride, padding,
                      output_padding, groups, dilation=dilation, device="meta")  # fmt: skip
        return _with(module, weight, bias)

    return build


def _interpolate(
    input: Any, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any
) -> nn.Module:
    if mode == "area" and isinstance(size, (tuple, list)):  # which is adaptive average pooling
        return (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)[len(size) - 1](tuple(size))
    return Interpolate(size, scale_factor, mode, **others)


def _with(module: nn.Module, weight: Any, bias: Any) -> nn.Module:
    for name, value in (("weight", weight), ("bias", bias)):
        module.register_parameter(name, None if value is None else nn.Parameter(value, False))
    return module


def _binary(operation: Callable[[Any, Any], Any], joined: type[nn.Module] | None) -> Callable[..., nn.Module]:
    """With a constant an elementwise operation, of two activations the module `joined`."""

    def build(input: Any, other: Any, *, alpha: Any = 1) -> nn.Module:
        _only(isinstance(alpha, int) and alpha == 1)
        signals = [isinstance(argument, torch.fx.Node) for argument in (input, other)]
        if all(signals):
            _only(joined is not None)
            assert joined is not None
            return joined()
        return Constant(operation, input if signals[1] else other, first=signals[1])

    return build


# Function or method -> the module that does the same. The parameters are those of the function, so Python binds them.
MODULES: dict[Any, Callable[..., nn.Module]] = {
    **{function: _like(module) for module, functions in ACTIVATIONS.items() for function in functions},
    F.prelu: _prelu,
    torch.prelu: _prelu,
    **dict.fromkeys((F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout), _dropout),
    stochastic_depth: _stochastic_depth,
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add", "add_"), _sum),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul", "mul_"), _binary(operator.mul, Gate)),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub", "sub_"), _binary(operator.sub, None)),
    **dict.fromkeys((operator.truediv, operator.itruediv, torch.div, "div", "div_"), _binary(operator.truediv, None)),
    **dict.fromkeys((torch.cat, torch.concat), _cat),
    **dict.fromkeys((torch.matmul, torch.bmm, operator.matmul, "matmul", "bmm"), lambda input, other: MatMul()),
    **dict.fromkeys((F.softmax, torch.softmax, "softmax"), _softmax),
    **dict.fromkeys((F.layer_norm, torch.layer_norm), _layer_norm),
    **dict.fromkeys((F.group_norm, torch.group_norm), _group_norm),
    F.rms_norm: _rms_norm,
    F.normalize: _normalize,
    **dict.fromkeys((torch.mean, "mean"), _over(Mean)),
    **dict.fromkeys((torch.sum, "sum"), _over(Sum)),
    F.interpolate: _interpolate,
    F.pad: lambda input, pad, mode="constant", value=None: Pad(pad, mode, value),
    F.batch_norm: _batch_norm,
    F.linear: _linear,
    **dict.fromkeys((F.conv1d, torch.conv1d), _convolution(nn.Conv1d)),
    **dict.fromkeys((F.conv2d, torch.conv2d), _convolution(nn.Conv2d)),
    **dict.fromkeys((F.conv3d, torch.conv3d), _convolution(nn.Conv3d)),
    **dict.fromkeys((F.conv_transpose1d, torch.conv_transpose1d), _transposed(nn.ConvTranspose1d)),
    **dict.fromkeys((F.conv_transpose2d, torch.conv_transpose2d), _transposed(nn.ConvTranspose2d)),
    **dict.fromkeys((F.conv_transpose3d, torch.conv_transpose3d), _transposed(nn.ConvTranspose3d)),
    **dict.fromkeys((F.max_pool1d, torch.max_pool1d), _max_pool(1)),
    **dict.fromkeys((F.max_pool2d, torch.max_pool2d), _max_pool(2)),
    **dict.fromkeys((F.max_pool3d, torch.max_pool3d), _max_pool(3)),
    F.avg_pool1d: _like(nn.AvgPool1d),
    F.avg_pool2d: _like(nn.AvgPool2d),
    F.avg_pool3d: _like(nn.AvgPool3d),
    F.adaptive_avg_pool1d: _like(nn.AdaptiveAvgPool1d),
    F.adaptive_avg_pool2d: _like(nn.AdaptiveAvgPool2d),
    F.adaptive_avg_pool3d: _like(nn.AdaptiveAvgPool3d),
    F.adaptive_max_pool1d: _adaptive_max_pool(1),
    F.adaptive_max_pool2d: _adaptive_max_pool(2),
    F.adaptive_max_pool3d: _adaptive_max_pool(3),
}
