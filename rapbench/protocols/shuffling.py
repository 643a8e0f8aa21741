"""Shuffling: the selected pixels' values, all channels together, are permuted among the selected positions."""

import torch
from torch import Tensor

from rapbench.draws import random_keys
from rapbench.protocols import protocols
from rapbench.protocols._pixels import ranked_pixels


@protocols.register("shuffling", kind="perturbation", random=True)
def shuffling(images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    """Return the images with each one's first `counts` pixels of `order` permuted, by a draw that hangs on its seed.

    images: (P, C, *space). order: (P, n) positions by rank, n at least the largest count. counts, seeds: (P,).
    """
    pixels = ranked_pixels(images, order, counts)
    keys = random_keys(seeds, order.shape[1]).masked_fill(pixels.beyond, torch.iinfo(torch.int64).max)
    source = pixels.places.gather(1, keys.argsort(dim=1, stable=True))
    pixels.rows[pixels.places] = pixels.rows[source]
    return pixels.images()
