"""Linear layers as maps: applied with other weights, and transposed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from timm.layers import Conv2dSame
from timm.layers.padding import pad_same
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.operations import MatMul, Pad
from rapbench.relevance.rules import Back, Flow, Rule, Rules, Step, transpose

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


class Padded(nn.Module):
    """Zeros around an input, then a convolution: one linear layer, whose padding is nobody's pixel."""

    def __init__(self, pad: Pad, layer: nn.Module):
        super().__init__()
        self.pad, self.layer = pad, layer

    @property
    def weight(self) -> Tensor:
        """The convolution's."""
        return self.layer.weight  # type: ignore[return-value]

    @property
    def bias(self) -> Tensor | None:
        """The convolution's."""
        return self.layer.bias  # type: ignore[return-value]

    def forward(self, x: Tensor) -> Tensor:
        """Pad and convolve."""
        value: Tensor = self.layer(self.pad(x))
        return value


class Folded(nn.Module):
    """A linear layer and the batch norm behind it as one layer; the norm scales the layer's output channels."""

    def __init__(self, layer: nn.Module, norm: nn.Module, place: str = ""):
        super().__init__()
        self.layer, self.norm, self.place = layer, norm, place
        self.computed: tuple[Tensor, Tensor] | None = None

    def fold(self) -> tuple[Tensor, Tensor]:
        """Return weight * scale and (bias - mean) * scale + shift, from the tensors as they are now."""
        if self.computed is not None:
            return self.computed
        norm: Any = self.norm
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        bias: Tensor | float = 0.0 if self.layer.bias is None else self.layer.bias  # type: ignore[assignment]
        with torch.no_grad():
            scale = (norm.running_var + norm.eps).rsqrt()
            scale = scale if norm.weight is None else scale * norm.weight
            shift = (bias - norm.running_mean) * scale
            shift = shift if norm.bias is None else shift + norm.bias
            if isinstance(innermost(self), TRANSPOSED):  # (inputs, outputs of one group, ...)
                grouped = weight.unflatten(0, (groups(self), -1))
                ones = [1] * (weight.dim() - 2)
                return (grouped * scale.view(groups(self), 1, -1, *ones)).flatten(0, 1), shift
            return weight * scale.view(-1, *[1] * (weight.dim() - 1)), shift

    @property
    def weight(self) -> Tensor:
        """The layer's, scaled."""
        return self.fold()[0]

    @property
    def bias(self) -> Tensor:
        """The layer's, normalised."""
        return self.fold()[1]

    def forward(self, x: Tensor) -> Tensor:
        """Apply both."""
        return apply(self, x, *self.fold())


MASKED = 1e-30  # attention below counts as none: masks of -100 leave e^-100 of it, which only float64 resolves


class Attended(nn.Module):
    """Attention as a linear layer of its values, whose weights are constants.

    Parameters
    ----------
    weight : Tensor
        Attention's weights, (rows, ..., queries, keys).
    left : bool
        Whether they stand to the left of the values.
    nonnegative : bool
        Whether no weight is negative.
    """

    bias = None

    def __init__(self, weight: Tensor, left: bool, nonnegative: bool):
        super().__init__()
        self.weight, self.left, self.nonnegative = weight, left, nonnegative


LINEAR = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED, Conv2dSame, Padded, Folded)


def innermost(module: nn.Module | None) -> Any:
    """Return the torch module inside `Padded` and `Folded`."""
    while isinstance(module, (Padded, Folded)):
        module = module.layer
    return module


def groups(module: nn.Module) -> int:
    """How many groups a linear layer's channels are in."""
    return getattr(innermost(module), "groups", 1)


def per_channel(module: nn.Module, values: Tensor, like: Tensor) -> Tensor:
    """View (outputs,) values so that they broadcast against a layer's output."""
    return values if isinstance(innermost(module), nn.Linear) else values.view(-1, *[1] * (like.dim() - 2))


def apply(module: nn.Module, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Apply a linear layer's map to x with other weights; shapes as the layer's own.

    Raises RapbenchError where a folded norm's channels are not the layer's.
    """
    if isinstance(module, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(module, Attended):
        value = weight @ x if module.left else x @ weight
        return value if bias is None else value + bias
    if isinstance(module, Padded):
        return apply(module.layer, module.pad(x), weight, bias)
    if isinstance(module, Folded):
        if isinstance(innermost(module), nn.Linear) and x.dim() != 2:
            raise RapbenchError(
                f"no relevance rule for {type(module.norm).__name__} at {module.place}: it normalises dimension 1 of "
                f"an output of {x.dim()} dimensions, whose features are the last; use a convolution of kernel size 1 "
                "instead of the fully connected layer"
            )
        return apply(module.layer, x, weight, bias)
    if isinstance(module, Conv2dSame):
        x = pad_same(x, weight.shape[-2:], module.stride, module.dilation)
        return F.conv2d(x, weight, bias, module.stride, 0, module.dilation, module.groups)
    if isinstance(module, TRANSPOSED):
        convolve: Callable[..., Tensor] = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[weight.dim() - 3]
        geometry = (module.stride, module.padding, module.output_padding, module.groups, module.dilation)
        return convolve(x, weight, bias, *geometry)
    assert isinstance(module, nn.modules.conv._ConvNd)
    return module._conv_forward(x, weight, bias)


def back_through(module: Any, s: Tensor, weight: Tensor, x: Tensor) -> Tensor:
    """Return sum_j w_ij s_j, shaped like x, of a convolution with another weight, padded by numbers of zeros."""
    transposed = isinstance(module, TRANSPOSED)
    found: Tensor = torch.ops.aten.convolution_backward(  # as torch.nn.grad does, which loses the memory's layout
        s, x, weight, None, module.stride, module.padding, module.dilation, transposed,
        module.output_padding if transposed else [0], module.groups, (True, False, False),
    )[0]  # fmt: skip
    return found


def magnitude(x: Tensor, sign: int) -> Tensor:
    """The magnitude of x's positive part, or of its negative part: ratios of products do not mind the sign."""
    return x.clamp(min=0) if sign > 0 else x.neg().clamp_(min=0)


def weight_magnitude(step: Step, sign: int) -> Tensor:
    """The magnitude of one sign of a layer's weights."""
    weight: Tensor = step.module.weight  # type: ignore[assignment]
    return step.constant(f"weight {sign}", lambda: magnitude(weight, sign))


def products(step: Step, m: Tensor, sign: int, *, nonnegative: bool) -> list[tuple[Tensor, Tensor]]:
    """Return the parts (input, weight) whose products are the magnitudes of all products m w of one sign."""
    if isinstance(step.module, Attended) and step.module.nonnegative:
        return [(magnitude(m, sign), step.module.weight)]
    if nonnegative:
        return [(m, weight_magnitude(step, sign))]
    return [(magnitude(m, 1), weight_magnitude(step, sign)), (magnitude(m, -1), weight_magnitude(step, -sign))]


def shares(module: nn.Module, parts: list[tuple[Tensor, Tensor]], bias: Tensor | None = None) -> tuple[Tensor, Back]:
    """Return sum_i z_ij over all parts (input, weight), and the map s -> sum over parts x_i sum_j w_ij s_j.

    Several parts are one layer with as many times the input channels. bias: what is added to the sum.
    """
    (x, weight), count = parts[0], len(parts)
    axis = x.dim() - 1 if isinstance(innermost(module), nn.Linear) else 1
    inputs = 0 if isinstance(innermost(module), TRANSPOSED) else 1  # the weight's input channels, in groups or not
    if isinstance(module, Attended):
        axis, inputs = (x.dim() - 2, weight.dim() - 1) if module.left else (x.dim() - 1, weight.dim() - 2)
    if count > 1:
        x = _stacked([x for x, _ in parts], axis, groups(module))
        weight = _stacked([weight for _, weight in parts], inputs, groups(module) if inputs == 0 else 1)
    value, back = transpose(functools.partial(apply, module, weight=weight, bias=bias), x)

    def handed(s: Tensor) -> Tensor:
        result = back(s).mul_(x)
        if count == 1:
            return result
        grouped: Tensor = result.unflatten(axis, (groups(module), count, -1))
        return grouped.sum(axis + 1).flatten(axis, axis + 1)

    return value, handed


def _stacked(tensors: list[Tensor], axis: int, groups: int) -> Tensor:
    if groups == 1:  # the common case, which keeps the memory's layout
        return torch.cat(tensors, axis)
    return torch.cat([tensor.unflatten(axis, (groups, -1)) for tensor in tensors], axis + 1).flatten(axis, axis + 1)


def attention_follows(rules: Rules, linear: Rule) -> None:
    """Register, for products of attention's weights and values, the rule of linear layers.

    The weights are constants [ali2022xai]: all relevance goes through them to the values.
    """

    @rules.rule(MatMul, where=lambda product: product.values is not None)
    def attention(step: Step, flows: Sequence[Flow]) -> Iterator[tuple[Tensor | None, ...]]:
        for (part,) in linear(_attended(step), flows):
            yield (None, part) if step.module.values == 1 else (part, None)


def _attended(step: Step) -> Step:
    """Return the step of a product of attention's weights and values as one of a linear layer of the values."""
    values: int = step.module.values  # type: ignore[assignment]
    weight, signed = step.inputs[1 - values], not step.nonnegative[1 - values]
    if not signed:  # what a mask has shut out takes no share, also where nothing else has the sign that a rule needs
        weight = F.threshold(weight, MASKED, 0.0)
    return dataclasses.replace(
        step,
        module=Attended(weight, left=values == 1, nonnegative=not signed),
        inputs=(step.inputs[values],),
        first=False,
        shapes=(step.shapes[values],),
        nonnegative=(step.nonnegative[values],),
        varying=(step.varying[values],),
        constants=None,  # these weights are the images' own
    )
