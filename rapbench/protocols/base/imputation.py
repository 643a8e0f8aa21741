"""Linear imputation: removed pixels become weighted means of their neighbours, all of them at once.

A neighbour's weight is 2 for each dimension in which its position agrees with the pixel's, multiplied: in two
dimensions 2 for the four direct and 1 for the four diagonal ones, as the 1/6 and 1/12 of ROAD [rong2022consistent].
With W the weights, and d their sums over the neighbours that there are, each removed pixel x_i satisfies

    d_i x_i = sum_j W_ij x_j

where x_j is known or itself removed. Restricted to the removed pixels this is a graph Laplacian: symmetric, and
positive definite where any pixel is known. It is solved by conjugate gradients [hestenes1952methods], preconditioned by
a multigrid V-cycle: Jacobi smoothing, and coarse grids of every second pixel with linear interpolation and Galerkin's
operators. Corrections are found in float32, and the residuals that they correct, and that end the iteration, in
float64.

Every step is elementwise or a sum in a fixed order. So an image has the same values, to the last bit, in any batch.
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from rapbench.core.errors import RapbenchError

TOLERANCE = 1e-7  # of the residual's norm, relative to that of the right-hand side
STEPS = 3  # of conjugate gradients, before the residual is computed anew in float64
ROUNDS = 60  # of these steps: an image takes two to four
SAFE = 0.55  # above 1/2, so that Jacobi's steps shrink every error and the V-cycle is positive definite


def linearly_imputed(images: Tensor, removed: Tensor) -> Tensor:
    """Return the images with removed pixels linearly imputed from those that are left.

    Parameters
    ----------
    images : Tensor, (P, C, *space)
        With one to three spatial dimensions, of any sizes.
    removed : Tensor, (P, *space) bool
        At least one pixel of each image is not.

    Returns
    -------
    Tensor, (P, C, *space)
        Of the images' type. Pixels that are not removed are unchanged.

    Raises
    ------
    RapbenchError
        If the system is not solved to a relative residual of 1e-7, as where no pixel is left.
    """
    absent = removed[:, None]
    known = images.double().masked_fill(absent, 0)
    neighbours = Neighbours.of(absent, torch.float64)
    right = neighbours.mask * binomial(known)
    levels = hierarchy(Neighbours.of(absent, torch.float32))
    left = (~removed).flatten(1).any(1).view(-1, *[1] * (images.dim() - 1))
    bound = torch.where(left, TOLERANCE * norm(right), -1)  # without a known pixel no value is right: never reached
    found, residual = torch.zeros_like(right), right
    for _ in range(ROUNDS):
        size = norm(residual)
        scaled = (residual * reciprocal(size)).float()
        change = correction(levels, scaled).double() * size
        found = torch.where(size <= bound, found, found + change)  # an image that is solved stays as it is
        residual = right - neighbours.apply(found)
        if all_solved(residual, bound):
            return torch.where(absent, found.to(images.dtype), images)
    raise RapbenchError(
        f"linear imputation does not converge to a relative residual of {TOLERANCE:g}; is a pixel left in each image, "
        "and are all values finite?"
    )


def all_solved(residual: Tensor, bound: Tensor) -> bool:
    """Return whether every residual's norm is within its bound.

    The host waits here for the device, once in a round of steps: a fixed number of rounds, that suffices for the
    slowest image, would cost each pass several times as much. What an image becomes does not depend on it.
    """
    return bool((norm(residual) <= bound).all())


class Operator(Protocol):
    """A symmetric positive semidefinite matrix over the pixels of a grid."""

    @property
    def step(self) -> Tensor:
        """(P, 1, *space): what Jacobi's method multiplies a residual by; 0 where there is no unknown."""

    def apply(self, x: Tensor) -> Tensor:
        """Return the product with x, (P, C, *space)."""

    def mask_of(self, x: Tensor) -> Tensor:
        """Return x with 0 where there is no unknown."""


@dataclass(frozen=True)
class Neighbours:
    """The system over removed pixels. mask, whole, step: (P, 1, *space); whole: the sum of weights, and of `centre`."""

    mask: Tensor
    whole: Tensor
    step: Tensor

    @classmethod
    def of(cls, absent: Tensor, dtype: torch.dtype) -> "Neighbours":
        """Return the system of the pixels that are absent, (P, 1, *space) bool."""
        mask = absent.to(dtype)
        sums = binomial(torch.ones_like(mask[:1]))  # with the pixel's own weight, 2 per dimension
        weights = sums - 2 ** (mask.dim() - 2)
        return cls(mask, mask * sums, mask * reciprocal(2 * SAFE * weights))

    def apply(self, x: Tensor) -> Tensor:
        """Return (d - W) x at the removed pixels; x is 0 elsewhere."""
        return self.whole * x - self.mask * binomial(x)

    def mask_of(self, x: Tensor) -> Tensor:
        """Return x with 0 at the pixels that are known."""
        return self.mask * x


@dataclass(frozen=True)
class Stencil:
    """A coarse grid's operator: a coefficient for each offset of at most one pixel. coefficients: (P, 3^d, *space)."""

    coefficients: Tensor
    step: Tensor

    @classmethod
    def of(cls, coefficients: Tensor) -> "Stencil":
        """Return the operator of its coefficients, by `offsets`."""
        middle = coefficients.shape[1] // 2
        sums = functools.reduce(torch.add, coefficients.abs().split(1, 1))
        diagonal = coefficients[:, middle : middle + 1]
        return cls(coefficients, reciprocal(torch.maximum(diagonal, SAFE * sums)))

    def apply(self, x: Tensor) -> Tensor:
        """Return the product with x, (P, C, *space)."""
        space = x.shape[2:]
        around = pad(x, [1, 1] * len(space))
        products = []
        for number, offset in enumerate(offsets(len(space))):
            window = around
            for axis, (by, length) in enumerate(zip(offset, space, strict=True), start=2):
                window = window.narrow(axis, 1 + by, length)
            products.append(self.coefficients[:, number : number + 1] * window)
        return functools.reduce(torch.add, products)

    def mask_of(self, x: Tensor) -> Tensor:
        """Return x: what is not unknown has coefficients 0."""
        return x


def hierarchy(finest: Operator) -> list[Operator]:
    """Return the operators from the finest grid down to one of a single pixel."""
    levels: list[Operator] = [finest]
    while max(levels[-1].step.shape[2:]) > 1:
        levels.append(galerkin(levels[-1]))
    return levels


def galerkin(fine: Operator) -> Stencil:
    """Return an operator's product with interpolation from the right and its transpose from the left.

    Coarse pixels three apart have no fine neighbour in common. So one product for each of 3^d colours finds all of the
    coefficients.
    """
    space = fine.step.shape[2:]
    coarse = [halved(length) for length in space]
    device, dtype = fine.step.device, fine.step.dtype
    places = torch.meshgrid(*[torch.arange(length, device=device) for length in coarse], indexing="ij")
    colour = torch.zeros(coarse, dtype=torch.int64, device=device)
    for place in places:
        colour = 3 * colour + place % 3
    products = []
    for number in range(3 ** len(space)):
        hats = interpolated((colour == number).to(dtype)[None, None], space)
        products.append(restricted(fine.mask_of(fine.apply(fine.mask_of(hats)))))
    wanted = []
    for offset in offsets(len(space)):
        index = torch.zeros_like(colour)
        for place, by in zip(places, offset, strict=True):
            index = 3 * index + (place + by) % 3
        wanted.append(index)
    found = torch.cat(products, 1)
    index = torch.stack(wanted)[None].expand(len(found), -1, *coarse)
    inside = torch.stack([inside_of(places, offset, coarse) for offset in offsets(len(space))])
    return Stencil.of(found.gather(1, index) * inside)


def cycle(levels: Sequence[Operator], residual: Tensor) -> Tensor:
    """Return one V-cycle's solution, (P, C, *space), for a residual on the first of the levels."""
    here, *below = levels
    found = here.step * residual
    if not below:
        return found
    rest = restricted(here.mask_of(residual - here.apply(found)))
    found += here.mask_of(interpolated(cycle(below, rest), residual.shape[2:]))
    found += here.step * (residual - here.apply(found))
    return found


def correction(levels: Sequence[Operator], residual: Tensor) -> Tensor:
    """Return what STEPS of preconditioned conjugate gradients find for a residual, (P, C, *space).

    Every image and channel has its own step lengths.
    """
    found = torch.zeros_like(residual)
    better = cycle(levels, residual)
    direction, product = better, inner(residual, better)
    for number in range(STEPS):
        image = levels[0].apply(direction)
        length = product * reciprocal(inner(direction, image))
        found += length * direction
        if number < STEPS - 1:
            residual = residual - length * image
            better = cycle(levels, residual)
            before, product = product, inner(residual, better)
            direction = better + product * reciprocal(before) * direction
    return found


def binomial(x: Tensor) -> Tensor:
    """Return the sums of (P, C, *space) weighted by 1, 2, 1 along every dimension, 0 beyond the border."""
    dimensions = x.dim() - 2
    x = pad(x, [1, 1] * dimensions)
    for axis in range(2, x.dim()):
        for _ in range(2):
            length = x.shape[axis] - 1
            x = x.narrow(axis, 0, length) + x.narrow(axis, 1, length)
    return x


def interpolated(coarse: Tensor, space: Sequence[int]) -> Tensor:
    """Return (P, C, *space): linear between values at every second pixel, and constant behind the last."""
    for axis, length in enumerate(space, start=2):
        if length > 1:
            ahead = torch.cat([coarse.narrow(axis, 1, coarse.shape[axis] - 1),
                               coarse.narrow(axis, coarse.shape[axis] - 1, 1)], axis)  # fmt: skip
            between = (coarse + ahead) * 0.5
            pairs = torch.stack([coarse, between], axis + 1).flatten(axis, axis + 1)
            coarse = pairs.narrow(axis, 0, length)
    return coarse


def restricted(fine: Tensor) -> Tensor:
    """Return the transpose of `interpolated`: (P, C, *space) to every second pixel."""
    for axis in range(2, fine.dim()):
        length = fine.shape[axis]
        if length > 1:
            lines = fine.movedim(axis, -1)
            half = lines[..., 1::2] * 0.5
            found = lines[..., ::2].clone()
            found[..., : length // 2] += half
            found[..., 1:] += half[..., : halved(length) - 1]
            if length % 2 == 0:
                found[..., -1:] += half[..., -1:]
            fine = found.movedim(-1, axis)
    return fine


def halved(length: int) -> int:
    """Return how many pixels of a row are in its coarse grid: every second, from the first."""
    return (length + 1) // 2


def offsets(dimensions: int) -> list[tuple[int, ...]]:
    """Return the positions of a pixel's neighbours relative to it, and its own in the middle."""
    return list(itertools.product((-1, 0, 1), repeat=dimensions))


def inside_of(places: Sequence[Tensor], offset: Sequence[int], space: Sequence[int]) -> Tensor:
    """Return whether each pixel's neighbour at an offset is on the grid, *space."""
    found = torch.ones_like(places[0], dtype=torch.bool)
    for place, by, length in zip(places, offset, space, strict=True):
        found &= (place + by >= 0) & (place + by < length)
    return found


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Return the inner products over all pixels, (P, C, 1, ...), summed by halves: an order that is always the same."""
    products = (x * y).flatten(2)
    count = products.shape[2]
    while count > 1:
        half = (count + 1) // 2
        products[..., : count - half] += products[..., half:count]
        count = half
    return products[..., :1].reshape(*x.shape[:2], *[1] * (x.dim() - 2))


def norm(x: Tensor) -> Tensor:
    """Return the Euclidean norms over all pixels, (P, C, 1, ...)."""
    return inner(x, x).sqrt()


def reciprocal(x: Tensor) -> Tensor:
    """Return 1 / x, and 0 where x is 0."""
    return torch.where(x == 0, 0, 1 / x)
