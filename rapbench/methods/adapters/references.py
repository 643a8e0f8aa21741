"""Reference images drawn for an image: what SHAP's approximations compare it with."""

import torch
from torch import Tensor

from rapbench.core.random import random_keys
from rapbench.methods.adapters.noisy import noise_for


def references_for(image: Tensor, seed: Tensor, count: int, baseline: float, noise: float) -> Tensor:
    """Return `count` references, (count, C, ...), of an image, (1, C, ...): the baseline and Gaussian noise around it.

    seed: (1,), the image's. noise: its standard deviation as a share of the image's maximum - minimum. The first
    references are the same, however many there are.
    """
    drawn = noise_for(image, random_keys(seed, count)[0], noise)
    return torch.full_like(drawn, baseline) + drawn
