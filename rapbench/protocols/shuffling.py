"""Shuffling: the selected pixels' values, all channels together, are permuted among the selected positions."""

import torch
from torch import Tensor

from rapbench.draws import random_keys
from rapbench.protocols import protocols


@protocols.register("shuffling", kind="perturbation", random=True)
def shuffling(images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor) -> Tensor:
    """Return the images with each one's first `counts` pixels of `order` permuted, by a draw that hangs on its seed.

    images: (P, C, H, W). order: (P, H*W). counts, seeds: (P,).
    """
    most = int(counts.max())
    keys = random_keys(seeds, most)
    beyond = torch.arange(most, device=keys.device) >= counts[:, None]
    permutation = keys.masked_fill(beyond, torch.iinfo(keys.dtype).max).argsort(dim=1, stable=True)
    chosen = order[:, :most]
    source = torch.arange(order.shape[1], device=order.device).repeat(len(order), 1)
    source.scatter_(1, chosen, chosen.gather(1, permutation))
    return images.flatten(2).gather(2, source[:, None].expand(-1, images.shape[1], -1)).view_as(images)
