"""Shuffling: the selected pixels' values, all channels together, are permuted among the selected positions.

Every position of an image has a random key, a function of (seed, image, position) and of nothing else. The selected
positions, in order of position, receive the values of the selected positions in order of key. So equal selections give
equal images, whatever the ranks, the method, the sign or K.
"""

import torch
from torch import Tensor

from rapbench.draws import keys_at
from rapbench.protocols import protocols
from rapbench.protocols._pixels import by_position, ranked_pixels


@protocols.register("shuffling", kind="perturbation", random=True)
def shuffling(images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    """Return the images with each one's first `counts` pixels of `order` permuted.

    images: (P, C, *space). order: (P, n) positions by rank, n at least the largest count. counts: (P,). seeds: (P,),
    each image's own: the keys of its positions are drawn from it.
    """
    ascending = by_position(order, counts, images[0, 0].numel())
    pixels = ranked_pixels(images, ascending, counts)
    keys = keys_at(seeds, ascending).masked_fill(pixels.beyond, torch.iinfo(torch.int64).max)
    source = pixels.places.gather(1, keys.argsort(dim=1, stable=True))
    pixels.rows[pixels.places] = pixels.rows[source]
    return pixels.images()
