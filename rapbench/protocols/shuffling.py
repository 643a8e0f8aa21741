"""Shuffling: the selected pixels' values, all channels together, are permuted among the selected positions.

Every position of an image has a random key, a function of (seed, image, position) and of nothing else. The selected
positions, in order of position, receive the values of the selected positions in order of key. So equal selections give
equal images, whatever the ranks, the method, the sign or K.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.core.random import keys_at
from rapbench.protocols import protocols
from rapbench.protocols.base.fills import Normalisation
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.protocols.base.pixels import by_position, ranked_pixels


@protocols.register("shuffling")
@dataclass(frozen=True, kw_only=True)
class Shuffling(Perturbation):
    """Shuffling: the selected pixels are permuted among their positions."""

    def perturbed(
        self, images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor, normalisation: Normalisation | None = None
    ) -> Tensor:
        """Return the images with each one's first `counts` pixels of `order` permuted, as `Perturbation` says."""
        ascending = by_position(order, counts, images[0, 0].numel())
        pixels = ranked_pixels(images, ascending, counts)
        keys = keys_at(seeds, ascending).masked_fill(pixels.beyond, torch.iinfo(torch.int64).max)
        source = pixels.places.gather(1, keys.argsort(dim=1, stable=True))
        pixels.rows[pixels.places] = pixels.rows[source]
        return pixels.images()
