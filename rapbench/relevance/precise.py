"""Relevance in float64, of the images whose relevance float32 does not resolve."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.model.makeup import kept
from rapbench.relevance.cancellation import LOST, cancels
from rapbench.relevance.images import to_rows

# From a model, its inputs and a list for the conservation check, or None, to relevance, shaped like the inputs, and to
# which share of each image's rounding decides on, (N,).
Compute = Callable[[nn.Module, Tensor, list[Any] | None], tuple[Tensor, Tensor]]


class InFloat64:
    """A model's copy in float64."""

    shaped = False

    def __init__(self, model: nn.Module):
        # weights that hooks compute anew at each call belong to a graph of autograd's, which cannot be copied
        computed = (value for module in model.modules() for value in vars(module).values() if isinstance(value, Tensor))
        self.model = copy.deepcopy(model, {id(value): value.detach() for value in computed}).double()

    def with_weights_of(self, model: nn.Module) -> nn.Module:
        """Return the copy with the current parameters and buffers of the model that it was made of."""
        with torch.no_grad():
            for kind in (nn.Module.parameters, nn.Module.buffers):
                for own, tensor in zip(kind(self.model), kind(model), strict=True):
                    own.copy_(tensor)
        return self.model


def resolved(compute: Compute, model: nn.Module, inputs: Tensor, balance: list[Any] | None) -> Tensor:
    """Return relevance as computed in the inputs' type, or in float64 where rounding in float32 decides on its values.

    Parameters
    ----------
    compute : Compute
        What gives relevance.
    model : nn.Module
        In eval mode; left as it was.
    inputs : Tensor
        (N, ...), float32 or float64.
    balance : list, optional
        Takes the conservation check, of the batch in float64 where an image of it needs that.

    Returns
    -------
    Tensor
        Shaped and typed like `inputs`.

    Raises
    ------
    RapbenchError
        Where float64 does not resolve it either, and where the model has no copy in float64.
    """
    before = 0 if balance is None else len(balance)
    relevance, lost = compute(model, inputs, balance)
    coarse = ~(lost <= LOST)  # NaN too
    if not coarse.any():
        return relevance
    image = f"image {int(coarse.nonzero()[0])} of the batch"
    if inputs.dtype == torch.float64:
        raise cancels(image, inputs.dtype)
    if balance is not None:
        del balance[before:]
    try:
        copied = kept(model, inputs, InFloat64, lambda: InFloat64(model)).with_weights_of(model)
        exact = resolved(compute, copied, inputs.double(), balance)
    except Exception as error:
        if out_of_memory(error) or isinstance(error, RapbenchError):
            raise
        raise cancels(image, inputs.dtype) from error
    return torch.where(to_rows(coarse, relevance), exact.to(relevance.dtype), relevance)
