"""z^B's box: between which bounds a layer's input lies [montavon2017dtd]."""

from torch import Tensor

from rapbench.relevance.images import to_rows
from rapbench.relevance.linear import weight_magnitude
from rapbench.relevance.rules import Step


def image_box(step: Step, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's own minimum and maximum over all of its rows, (rows, 1, ...); x: (rows, ...)."""
    dimensions, batch = tuple(range(1, x.dim())), step.images_in(x)
    low, high = x.amin(dimensions).view(batch, -1).amin(1), x.amax(dimensions).view(batch, -1).amax(1)
    return to_rows(low, x), to_rows(high, x)


def in_box(step: Step, x: Tensor, low: Tensor, high: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the parts (input, weight) of q_ij = x_i w_ij - l_i w+_ij - h_i w-_ij = (x - l) w+ + (h - x) |w-|.

    No product is negative where x is in the box.
    """
    return [(x - low, weight_magnitude(step, 1)), (high - x, weight_magnitude(step, -1))]
