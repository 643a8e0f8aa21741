"""A model's last feature map: found in it, and led through a module of its own, where other libraries hang hooks.

A class activation map weighs the channels of one layer's output. Here that output is brought to (N, channels, *space)
whatever the layer's layout is, and a copy goes on through the network: what works in place after it does not change it.
"""

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.model import Model
from rapbench.model.makeup import kept

MOST_PREFIX = 16  # class, distillation and register tokens before those of the image
LINEAR = {1: "linear", 2: "bilinear", 3: "trilinear"}  # interpolation by dimensions


@dataclass(frozen=True)
class Layer:
    """A layer with a feature map, and how that lies in its output.

    prefix: of tokens, (N, prefix + positions, channels), how many are not of the image. grid: their positions.
    """

    name: str
    channels_last: bool = False
    grid: tuple[int, ...] = ()
    prefix: int = 0
    shaped = True

    def maps(self, output: Tensor) -> Tensor:
        """Return an output as (N, channels, *space), a copy."""
        if self.grid:
            tokens: Tensor = output[:, self.prefix :].transpose(1, 2).reshape(len(output), -1, *self.grid)
            return tokens.clone()
        return (output.movedim(-1, 1) if self.channels_last else output).clone()

    def output(self, maps: Tensor, output: Tensor) -> Tensor:
        """Return maps in the layout of the layer's output; what is not of the image comes from that."""
        if self.grid:
            return torch.cat([output[:, : self.prefix], maps.flatten(2).transpose(1, 2)], 1)
        return (maps.movedim(1, -1) if self.channels_last else maps).clone()


class Probed(nn.Module):
    """A model whose layer's feature map goes through `probe`: (N, C, *space) -> (N, classes)."""

    def __init__(self, model: nn.Module, layer: Layer):
        super().__init__()
        self.probe = nn.Identity()
        self.model = (model,)  # not a child: it stays as it is
        self.layer = layer

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the model's logits."""
        (model,) = self.model
        seen = 0

        def lead(module: nn.Module, given: Any, output: Tensor) -> Tensor:
            nonlocal seen
            seen += 1
            return self.layer.output(self.probe(self.layer.maps(output)), output)

        hook = model.get_submodule(self.layer.name).register_forward_hook(lead)
        try:
            logits: Tensor = model(inputs.clone())  # it may work in place on its input
        finally:
            hook.remove()
        if seen != 1:
            raise RapbenchError(f"layer {self.layer.name!r} is called {seen} times; name one that is called once")
        return logits


def probed(model: nn.Module, inputs: Tensor, layer: str | None, method: str) -> Probed:
    """Return a model with the feature map of a layer in its `probe`.

    layer: its name in the model; None for the last feature map: the output of the last convolution with more than one
    position, after what follows it without a change of resolution; in a transformer the output of the last
    normalisation of tokens on whose positions the logits depend. method: for the message.
    Raises RapbenchError where there is none, for a name that is no layer's, and for one without a feature map.
    """
    if inputs.dim() < 3 or inputs.dim() - 2 not in LINEAR:
        raise RapbenchError(
            f"{method} needs images of one to three dimensions, (N, C, *space), got inputs of shape "
            f"{tuple(inputs.shape)}"
        )
    return Probed(model, kept(model, inputs, ("layer", layer), lambda: _found(model, inputs, layer, method)))


def enlarged(maps: Tensor, inputs: Tensor) -> Tensor:
    """Return maps, (N, *small), interpolated linearly to the size of inputs, (N, C, *space), alike in each channel."""
    space = inputs.shape[2:]
    large = F.interpolate(maps[:, None], space, mode=LINEAR[len(space)], align_corners=False)
    return large.detach().to(inputs.dtype).expand_as(inputs).contiguous()


@dataclass(frozen=True)
class _Call:
    """A module's call, for one image."""

    name: str
    module: nn.Module
    output: Tensor

    @property
    def is_convolution(self) -> bool:
        return isinstance(self.module, nn.modules.conv._ConvNd)

    @property
    def normalised(self) -> int:
        """How many channels a layer normalisation has along the last dimension; 0 for any other module."""
        shape = getattr(self.module, "normalized_shape", ())
        width = shape[0] if isinstance(shape, (tuple, list)) and len(shape) == 1 else 0
        last_only = type(self.module) is nn.LayerNorm or self.output.shape[1] != width
        return width if last_only and self.output.shape[-1] == width else 0


def _found(model: nn.Module, inputs: Tensor, layer: str | None, method: str) -> Layer:
    names = dict(model.named_modules())
    if layer not in names and f"network.{layer}" in names and isinstance(model, Model):
        layer = f"network.{layer}"  # as the network itself calls it
    if layer is not None and layer not in names:
        raise RapbenchError(f"{method}: the model has no layer {layer!r}{did_you_mean(layer, names)}")
    calls, logits = _called(model, inputs)
    once = Counter(id(call.module) for call in calls)
    layers = [(call, found) for call, found in _layers(calls, inputs.dim() - 2) if once[id(call.module)] == 1]
    if layer is not None:
        for call, found in layers:
            if call.name == layer:
                return found
        shapes = [f"{tuple(call.output.shape[1:])}" for call in calls if call.name == layer]
        what = f"gives {' and '.join(shapes)} for an image" if shapes else "gives no tensor"
        raise RapbenchError(f"{method}: layer {layer!r} {what}: no feature map, or it is called more than once")
    weighted = (logits * torch.linspace(1, 2, logits.shape[1], device=logits.device, dtype=logits.dtype)).sum()
    last = _last_map(calls, inputs.dim() - 2)
    for call, found in reversed(layers):
        is_last = last is not None and call.output.shape[2:] == last.output.shape[2:] and not found.channels_last
        if (is_last and not found.grid) or (call.normalised and (found.grid or found.channels_last)):
            if not call.output.requires_grad:
                break  # its gradient is not to be had, and an earlier layer is not the last
            (gradient,) = torch.autograd.grad(weighted, call.output, retain_graph=True, allow_unused=True)
            if gradient is not None and found.maps(gradient).any():
                return found
    raise RapbenchError(
        f"{method} finds no feature map in {type(model).__name__}: no convolution or normalised tokens with more than "
        "one position, in a module that is called once; name a layer with the option layer"
    )


def _called(model: nn.Module, inputs: Tensor) -> tuple[list[_Call], Tensor]:
    """Return the calls of modules that return a tensor, in order, and the logits; for one image, if it takes one."""
    for some in (inputs[:1], inputs):
        calls: list[_Call] = []
        hooks = []
        for name, module in model.named_modules():
            if not name:
                continue

            def note(module: nn.Module, given: Any, output: Any, name: str = name, calls: list[_Call] = calls) -> None:
                if isinstance(output, Tensor) and output.dim() > 2:
                    calls.append(_Call(name, module, output))

            hooks.append(module.register_forward_hook(note))
        try:
            with torch.enable_grad():
                return calls, model(some.detach().clone().requires_grad_().clone())
        except Exception:
            if some is inputs or len(inputs) == 1:
                raise
        finally:
            for hook in hooks:
                hook.remove()
    raise AssertionError


def _layers(calls: list[_Call], dimensions: int) -> list[tuple[_Call, Layer]]:
    """Return the calls with a feature map of more than one position, in order, with its layout."""
    found = []
    grids = _grids(calls, dimensions)
    for call in calls:
        shape = call.output.shape
        if len(shape) == dimensions + 2:
            last = bool(call.normalised) and dimensions > 1
            if math.prod(shape[1:-1] if last else shape[2:]) > 1:
                found.append((call, Layer(call.name, channels_last=last)))
        if len(shape) == 3 and dimensions > 1:
            grid = _fitting(grids, shape[1])
            if grid:
                found.append((call, Layer(call.name, grid=grid, prefix=shape[1] - math.prod(grid))))
    return found


def _grids(calls: list[_Call], dimensions: int) -> list[tuple[int, ...]]:
    """Return the sizes of the convolutions' outputs, in order."""
    return list(dict.fromkeys(
        tuple(call.output.shape[2:]) for call in calls if call.is_convolution and call.output.dim() == dimensions + 2
    ))  # fmt: skip


def _fitting(grids: list[tuple[int, ...]], tokens: int) -> tuple[int, ...]:
    """Return the last grid that so many tokens cover but for a prefix; () for none of more than one position."""
    fitting = [grid for grid in reversed(grids) if 0 <= tokens - math.prod(grid) <= MOST_PREFIX]
    return fitting[0] if fitting and math.prod(fitting[0]) > 1 else ()


def token_grid(model: nn.Module, inputs: Tensor, tokens: int) -> tuple[int, ...]:
    """Return the positions of the last tokens of a transformer in the image; () where no convolution tells them."""
    calls, _ = _called(model, inputs)
    return _fitting(_grids(calls, inputs.dim() - 2), tokens)


def _last_map(calls: list[_Call], dimensions: int) -> _Call | None:
    """Return the last call of a convolution with more than one position."""
    wanted = (call for call in reversed(calls) if call.is_convolution and call.output.dim() == dimensions + 2)
    return next(itertools.dropwhile(lambda call: math.prod(call.output.shape[2:]) == 1, wanted), None)
