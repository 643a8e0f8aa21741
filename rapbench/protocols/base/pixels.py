"""Ranked pixels as rows of a table, so that perturbing touches them alone and not whole images."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Pixels:
    """A copy of images as one row a pixel. places: (P, most) rows by rank; past an image's count, its spare row."""

    rows: Tensor
    places: Tensor
    beyond: Tensor
    shape: torch.Size

    def images(self) -> Tensor:
        """Return (P, C, *space) images of the rows, channels-last."""
        count, channels, *space = self.shape
        whole = self.rows.view(count, math.prod(space) + 1, channels)[:, :-1]
        images: Tensor = whole.transpose(1, 2).unflatten(2, space)
        return images


def ranked_pixels(images: Tensor, order: Tensor, counts: Tensor) -> Pixels:
    """Return the images' pixels, and where each one's first `counts` of `order` are.

    images: (P, C, *space). order: (P, n) positions by rank, n at least the largest count. counts: (P,).
    """
    count, channels = images.shape[:2]
    pixels = images[0, 0].numel()
    table = images.new_empty(count, pixels + 1, channels)
    table[:, :-1] = images.flatten(2).transpose(1, 2)
    ranks = torch.arange(order.shape[1], device=order.device)
    beyond = ranks >= counts[:, None]
    first = torch.arange(count, device=order.device)[:, None] * (pixels + 1)
    places = order.masked_fill(beyond, pixels) + first
    return Pixels(table.flatten(0, 1), places, beyond, images.shape)


def by_position(order: Tensor, counts: Tensor, size: int) -> Tensor:
    """Return (P, n): each row's first `counts` of `order`, ascending, then `size`. size: positions in an image.

    Counted into their places, several times quicker than a sort.
    """
    count, most = order.shape
    beyond = torch.arange(most, device=order.device) >= counts[:, None]
    chosen = torch.zeros(count, size + 1, dtype=torch.bool, device=order.device)
    chosen.scatter_(1, order.masked_fill(beyond, size), True)
    chosen[:, size] = False  # where what lies beyond was put
    places = torch.where(chosen, chosen.cumsum(1) - 1, most)
    ascending = order.new_full((count, most + 1), size)
    ascending.scatter_(1, places, torch.arange(size + 1, device=order.device).expand(count, -1))
    return ascending[:, :most]
