"""z^B's box: between which bounds a layer's input lies [montavon2017dtd]."""

from torch import Tensor

from rapbench.relevance.linear import weight_magnitude
from rapbench.relevance.rules import Step


def image_box(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return each image's own minimum and maximum, (N, 1, ...)."""
    dimensions = tuple(range(1, x.dim()))
    return x.amin(dimensions, keepdim=True), x.amax(dimensions, keepdim=True)


def in_box(step: Step, x: Tensor, low: Tensor, high: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the parts (input, weight) of q_ij = x_i w_ij - l_i w+_ij - h_i w-_ij = (x - l) w+ + (h - x) |w-|.

    No product is negative where x is in the box.
    """
    return [(x - low, weight_magnitude(step, 1)), (high - x, weight_magnitude(step, -1))]
