"""The signal estimators S_a and S_a+- (equations 4 and 8 of [kindermans2017patternnet]), in one pass over images.

A unit's output is y = w^T x + b, where x is its patch: all of the input for a fully connected layer, the receptive
field at each output position for a convolution. Its pattern is::

    a = (E+[x y] - E+[x] E[y]) / (w^T E+[x y] - w^T E+[x] E[y])

E is the mean over images and positions; E+ is that over those with y > 0 where a ReLU follows (S_a+-), and E itself
elsewhere (S_a, which is cov[x, y] / var[y]). The bias decides with w^T x which samples are positive, as it does for the
ReLU, and cancels from the rest, as the paper's constant neuron without a share in the signal: w^T a = 1 without it.
E[y] is over all samples, as in iNNvestigate's later code; its first version took the regime's mean.

Sums of patch times y+ over positions are gradients with respect to the weight, so no patch is ever laid out.
"""

import functools
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.model.modules import at_rest
from rapbench.patterns.chain import chain
from rapbench.relevance.linear import apply, innermost

ROWS = 64  # units whose patterns are worked out together: few, so that the copies in float64 stay small


def estimate(model: nn.Module, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return the pattern of every unit, which PatternNet and PatternAttribution need [kindermans2017patternnet].

    Parameters
    ----------
    model : nn.Module
        A VGG-type network (or a zoo model) with its batch norms folded into the layer before: those weights are meant.
    batches : iterable of Tensor
        Any number of (N, C, ...) preprocessed images on the model's device, in batches of any size.

    Returns
    -------
    dict of str to Tensor
        For each linear layer, by name, a tensor of its weight's shape and type. A unit that was never active, or never
        varied, has the pattern 0: nothing is propagated through it.

    Raises
    ------
    RapbenchError
        For another kind of network, before it asks for images, and when there are no images or none that give numbers.
    """
    with at_rest(model), torch.no_grad():
        chain(model)
        sums: dict[str, _Sums] = {}
        images = 0
        for batch in batches:
            if not len(batch):
                continue
            images += len(batch)
            with torch.autocast(batch.device.type, enabled=False):
                if not sums:  # compared with the model on the first batch
                    found = chain(model, batch)
                    sums = {name: _Sums(layer, name in found.rectified) for name, layer in found.layers.items()}
                found.run(batch, functools.partial(_add, sums))
        if not images:
            raise RapbenchError("patterns are estimated from images, but there are none")
        patterns = {name: sums.pop(name).pattern() for name in found.layers}
    broken = [name for name, pattern in patterns.items() if not pattern.isfinite().all()]
    if broken:
        raise RapbenchError(f"the patterns of {', '.join(broken)} are not finite; do the images or weights hold NaN?")
    return patterns


def _add(sums: dict[str, "_Sums"], name: str, x: Tensor) -> Tensor:
    return sums[name].add(x)


class _Sums:
    """The sums over samples that one layer's patterns are made of, in float64.

    xy, x: over the samples that count (the positive ones of a `rectified` layer), of x y and x for each unit, shaped
    like the weight. count: their number, (units,). y: of y over all `seen` samples, (units,).
    """

    def __init__(self, layer: Any, rectified: bool):
        self.layer = layer
        self.rectified = rectified
        self.weight: Tensor = layer.weight.detach()
        self.xy, self.x = (torch.zeros_like(self.weight, dtype=torch.float64) for _ in range(2))
        self.count, self.y = (self.weight.new_zeros(len(self.weight), dtype=torch.float64) for _ in range(2))
        self.seen = 0

    def add(self, x: Tensor) -> Tensor:
        """Take in a batch of the layer's inputs and return its outputs."""
        weight = self.weight.detach().requires_grad_()
        with torch.enable_grad():
            linear = apply(self.layer, x, weight)
        dense = isinstance(innermost(self.layer), nn.Linear)
        channel = linear.dim() - 1 if dense else 1
        y = linear.detach()
        if self.layer.bias is not None:
            y = y + self.layer.bias.view(-1, *[1] * (y.dim() - 1 - channel))
        counted, counts = (y.relu(), (y > 0).to(y.dtype)) if self.rectified else (y, torch.ones_like(y))
        for total, factor in ((self.xy, counted), (self.x, counts)):
            if dense:  # in place, for these sums are larger than the model
                total.addmm_(factor.flatten(0, -2).T.double(), x.flatten(0, -2).double())
            else:
                total += torch.autograd.grad(linear, weight, factor, retain_graph=True)[0]
        others = [dim for dim in range(y.dim()) if dim != channel]
        self.count += counts.sum(others, dtype=torch.float64)
        self.y += y.sum(others, dtype=torch.float64)
        self.seen += y.numel() // len(self.weight)
        return y

    def pattern(self) -> Tensor:
        """Return the layer's patterns, shaped like its weight."""
        means = self.y / self.seen
        parts = (self.weight, self.xy, self.x, self.count.clamp(min=1), means)
        return torch.cat([_pattern(*rows) for rows in zip(*(part.split(ROWS) for part in parts), strict=True)])


def _pattern(weight: Tensor, xy: Tensor, x: Tensor, count: Tensor, mean: Tensor) -> Tensor:
    """Equation (8) for some units. weight, xy, x: (units, ...). count, mean: (units,)."""
    each = (-1, *[1] * (weight.dim() - 1))
    first, second = xy / count.view(each), x * (mean / count).view(each)
    numerator = first - second
    w = weight.double()
    denominator = (w * numerator).flatten(1).sum(1)
    # What rounding leaves where both terms cancel, as for a unit that never varies, is no direction.
    scale = (w.abs() * (first.abs() + second.abs())).flatten(1).sum(1)
    nothing = denominator.abs() <= 100 * torch.finfo(weight.dtype).eps * scale
    return (numerator / denominator.masked_fill(nothing, torch.inf).view(each)).to(weight.dtype)
