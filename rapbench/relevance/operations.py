"""The operations of a graph as modules: one for what torch has only as a function, and which are of which kind."""

import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.fx
import torch.nn.functional as F
from timm.layers import RmsNorm, RmsNorm2d
from timm.layers.grn import GlobalResponseNorm
from torch import Tensor, nn

T = TypeVar("T")


class Add(nn.Module):
    """A residual addition: (a, b) -> a + b, broadcasting."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors."""
        return a + b


class Gate(nn.Module):
    """A signal times a gate between bounds, as in squeeze-excitation: (signal, gate) -> signal * gate."""

    def forward(self, signal: Tensor, gate: Tensor) -> Tensor:
        """Multiply, broadcasting."""
        return signal * gate


class MatMul(nn.Module):
    """A matrix product of two signals. values: which of them attention's weights, the other, are applied to, if any."""

    values: int | None = None

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Multiply, broadcasting."""
        return a @ b


class Share(nn.Module):
    """A summand of its own for every unit, as a position embedding is: x -> x + c; c has a share of the relevance."""

    def __init__(self, constant: Tensor):
        super().__init__()
        self.constant = constant

    def forward(self, x: Tensor) -> Tensor:
        """Add the constant."""
        return x + self.constant


class Cat(nn.Module):
    """A concatenation along `dim`. constants: the parts that are constants, by their place among all."""

    def __init__(self, dim: int = 0, constants: dict[int, Tensor] | None = None):
        super().__init__()
        self.dim, self.constants = dim, constants or {}

    def forward(self, *parts: Tensor) -> Tensor:
        """Concatenate the parts."""
        return torch.cat(self.all(parts, self.constants), self.dim)

    def all(self, parts: Iterable[T], constants: dict[int, T]) -> list[T]:
        """Return what belongs to the parts and to the constants, in the order of the concatenation."""
        found = list(parts)
        for place in sorted(constants):
            found.insert(place, constants[place])
        return found


class Mean(nn.Module):
    """A mean over the dimensions `dim`: global average pooling when they are the spatial ones."""

    def __init__(self, dim: Any, keepdim: bool = False):
        super().__init__()
        self.dim = dim
        self.keepdim = keepdim

    def forward(self, x: Tensor) -> Tensor:
        """Average x, (N, ...)."""
        return x.mean(self.dim, self.keepdim)


class Sum(Mean):
    """A sum over the dimensions `dim`."""

    def forward(self, x: Tensor) -> Tensor:
        """Sum x, (N, ...)."""
        return x.sum(self.dim, self.keepdim)


class Interpolate(nn.Module):
    """Resizing, with torch.nn.functional.interpolate's arguments."""

    def __init__(self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **others: Any):
        super().__init__()
        self.size, self.scale_factor, self.mode, self.others = size, scale_factor, mode, others

    def forward(self, x: Tensor) -> Tensor:
        """Resize x's spatial dimensions."""
        return F.interpolate(x, self.size, self.scale_factor, self.mode, **self.others)


class Constant(nn.Module):
    """An elementwise operation with a number or a parameter: x + c, c - x, x * c, x / c, ..."""

    def __init__(self, operation: Callable[[Any, Any], Tensor], constant: Any, first: bool):
        super().__init__()
        self.operation = operation
        self.constant = constant
        self.first = first

    def forward(self, x: Tensor) -> Tensor:
        """Apply it; `first` puts the constant to the left."""
        return self.operation(self.constant, x) if self.first else self.operation(x, self.constant)


class Pad(nn.Module):
    """Padding, with torch.nn.functional.pad's arguments."""

    def __init__(self, pad: tuple[int, ...], mode: str = "constant", value: float | None = None):
        super().__init__()
        self.pad, self.mode, self.value = tuple(pad), mode, value

    def forward(self, x: Tensor) -> Tensor:
        """Pad x's last dimensions."""
        return F.pad(x, self.pad, self.mode, self.value)


class Part(nn.Module):
    """One part of a chunk or split: split(x)[index]."""

    def __init__(self, split: Callable[[Tensor], Any], index: int):
        super().__init__()
        self.split, self.index = split, index

    def forward(self, x: Tensor) -> Tensor:
        """Return the part of x."""
        part: Tensor = self.split(x)[self.index]
        return part


class Normalize(nn.Module):
    """x divided by its Euclidean norm, as torch.nn.functional.normalize does it."""

    def __init__(self, dim: int | tuple[int, ...] = 1, eps: float = 1e-12):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x: Tensor) -> Tensor:
        """Divide x."""
        return F.normalize(x, dim=self.dim, eps=self.eps)  # type: ignore[arg-type]


class BatchNorm(nn.modules.batchnorm._BatchNorm):
    """A batch norm of inputs of any number of dimensions, as torch.nn.functional.batch_norm is."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Take all."""


# Functions and methods that keep the elements and their order,
RESHAPES = {torch.flatten, torch.reshape, torch.squeeze, torch.unsqueeze} | {
    "flatten", "reshape", "view", "squeeze", "unsqueeze", "contiguous", "clone", "detach",
}  # fmt: skip
# those that put them elsewhere or leave some out,
REARRANGES = {
    torch.permute, torch.transpose, torch.narrow, torch.select, torch.flip, torch.roll, torch.channel_shuffle,
    F.pixel_shuffle, F.pixel_unshuffle, F.channel_shuffle, operator.getitem,
} | {"permute", "transpose", "narrow", "select", "flip", "roll"}  # fmt: skip
# and those that give several tensors.
SPLITS = {torch.chunk, torch.split, torch.unbind, torch.tensor_split, "chunk", "split", "unbind", "tensor_split"}
# Modules that change no value, so that what is known of their input holds for their output.
TRANSPARENT = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)
POOLS = {
    kind: tuple(getattr(nn, f"{name}{dimensions}d") for name in names for dimensions in (1, 2, 3))
    for kind, names in {"max": ("MaxPool", "AdaptiveMaxPool"), "average": ("AvgPool", "AdaptiveAvgPool")}.items()
}
PADS = tuple(
    getattr(nn, f"{kind}Pad{dimensions}d")
    for kind in ("Zero", "Constant", "Reflection", "Replication", "Circular")
    for dimensions in (1, 2, 3)
)
# Modules that put elements elsewhere.
MOVES = (nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle)
NORMS = (BatchNorm, nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
UPSAMPLES = (nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d)
# The modes in which each output is a mean of inputs: no weight is negative, and they sum to 1.
INTERPOLATIONS = ("nearest", "nearest-exact", "linear", "bilinear", "trilinear")
# Activations that work element by element, and the functions that stand for them.
ACTIVATIONS: dict[type[nn.Module], tuple[Any, ...]] = {
    nn.ReLU: (F.relu, torch.relu, torch.relu_, "relu", "relu_"),
    nn.ReLU6: (F.relu6,),
    nn.LeakyReLU: (F.leaky_relu,),
    nn.PReLU: (),
    nn.ELU: (F.elu,),
    nn.CELU: (F.celu,),
    nn.SELU: (F.selu,),
    nn.GELU: (F.gelu,),
    nn.SiLU: (F.silu,),
    nn.Mish: (F.mish,),
    nn.Hardswish: (F.hardswish,),
    nn.Hardtanh: (F.hardtanh,),
    nn.Softplus: (F.softplus,),
    nn.Tanh: (torch.tanh, "tanh"),
    nn.Sigmoid: (torch.sigmoid, F.sigmoid, "sigmoid", "sigmoid_"),
    nn.Hardsigmoid: (F.hardsigmoid,),
}
# Those whose values lie between bounds, so that their product with a signal is a gate on it.
BOUNDED = (nn.Sigmoid, nn.Hardsigmoid, nn.ReLU6, nn.Hardtanh)
# Those whose values are never negative.
NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Softplus, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
# Norms with the statistics of the sample itself.
SAMPLE_NORMS = (
    nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d, nn.RMSNorm, RmsNorm, RmsNorm2d,
    GlobalResponseNorm, Normalize,
)  # fmt: skip


def of_every_unit(constant: Tensor) -> bool:
    """Whether a summand has a value of its own for each channel and position, as no bias has."""
    return sum(size > 1 for size in constant.shape) > 1
