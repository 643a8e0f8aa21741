"""DeepLIFT's rescale rule through Captum, on a graph that its hooks see whole, with two bugs of Captum corrected.

Captum 0.9 distributes the relevance of a max pooling with overlapping windows wrongly: an input that is the maximum of
several windows gets one share only. And where input and baseline are equal, it uses the gradient of the batch's first
image for all. Both are corrected here. Its rule for softmax mixes the images of a batch, so softmax is unsupported.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from captum.attr import DeepLift
from captum.attr._core.deep_lift import SUPPORTED_NON_LINEAR, maxpool, nonlinear
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.module_graph import affine, hookable
from rapbench.relevance.operations import ACTIVATIONS

POOLS: dict[type[nn.Module], Callable[..., Any]] = {
    nn.MaxPool1d: F.max_pool1d,
    nn.MaxPool2d: F.max_pool2d,
    nn.MaxPool3d: F.max_pool3d,
}


def rescaled(model: nn.Module, inputs: Tensor, references: Tensor, targets: Tensor, method: str) -> Tensor:
    """Return relevance by the rescale rule against a reference for each input; all but targets: (N, C, *space).

    Raises RapbenchError for an operation that is neither affine nor an elementwise activation or max pooling.
    """
    takes = "affine operations, elementwise activations and max pooling"
    network = hookable(model, inputs, method, takes, functools.partial(_stand_in, method))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Setting forward, backward hooks")  # they are on our graph
        attribution: Tensor = DeepLift(network).attribute(
            inputs.requires_grad_(), references, additional_forward_args=(targets,)
        )
    return attribution.detach()


class Elementwise(nn.Module):
    """An activation of a type that Captum rescales, whatever its own."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.activation = (activation,)  # not a child, which Captum would rescale as well

    def forward(self, x: Tensor) -> Tensor:
        """Apply it."""
        activated: Tensor = self.activation[0](x)
        return activated


SUPPORTED_NON_LINEAR[Elementwise] = nonlinear


class MaxPool(nn.Module):
    """A max pooling of its own type, so that the rule below is found for it."""

    def __init__(self, pool: Any, method: str):
        super().__init__()
        self.method = method
        self.function = POOLS[type(pool)]
        self.dimensions = list(POOLS).index(type(pool)) + 1
        self.kernel_size, self.stride, self.padding = pool.kernel_size, pool.stride, pool.padding
        self.dilation, self.ceil_mode = pool.dilation, pool.ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        """Pool x, (N, C, ...)."""
        if x.dim() != self.dimensions + 2:
            raise RapbenchError(
                f"{self.method} has no rule for MaxPool{self.dimensions}d of inputs of shape {tuple(x.shape)}, "
                "which are not (N, C, ...)"
            )
        pooled: Tensor = self.function(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)
        return pooled


def _max_rule(
    module: MaxPool, inputs: Tensor, outputs: Tensor, grad_input: Tensor, grad_output: Tensor, eps: float
) -> Tensor:
    """Return Captum's multipliers, with shares added up, and each image's own gradient where nothing changes."""
    multipliers = maxpool(module, module.function, _add_up, inputs, outputs, grad_input, grad_output, eps)
    given, reference = inputs.chunk(2)
    unchanged = ((given - reference).abs() < eps).repeat(2, *[1] * (given.dim() - 1))
    return torch.where(unchanged, grad_input, multipliers)


def _add_up(shares: Tensor, winners: Tensor, kernel: Any, stride: Any, padding: Any, shape: list[int]) -> Tensor:
    """Like max_unpool, but for the sum where one input wins several windows."""
    to = shares.new_zeros(shape).flatten(2)
    return to.scatter_add_(2, winners.flatten(2), shares.flatten(2)).view(shape)


SUPPORTED_NON_LINEAR[MaxPool] = _max_rule


def _stand_in(method: str, module: nn.Module) -> nn.Module | None:
    if type(module) in ACTIVATIONS:
        return Elementwise(module)
    if type(module) in POOLS and not getattr(module, "return_indices", False):
        return MaxPool(module, method)
    return module if affine(module) else None
