"""Gradients of noisy copies of an image, summed up by Captum: for SmoothGrad and its kin.

Captum draws noise from the global generator, batch by batch. Here the noise is seeded by the image's seed, so that it
is the same in every batch, for every value of `batch`, and on every device.
"""

import math
from typing import Literal

import torch
from captum.attr import NoiseTunnel, Saliency
from torch import Tensor, nn

from rapbench.core.random import random_keys
from rapbench.methods.adapters.target import explained


def of_noisy_gradients(
    kind: Literal["smoothgrad", "smoothgrad_sq", "vargrad"],
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: int,
    noise: float,
    batch: int,
    seeds: Tensor | None,
) -> Tensor:
    """Return the mean, the mean square or the variance of the gradients of noisy copies, shaped like `inputs`.

    Parameters
    ----------
    kind : str
        Which of these, by Captum's names.
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    samples : int
        Copies of each image.
    noise : float
        Standard deviation of the noise, as a share of the image's maximum - minimum.
    batch : int
        Copies in one forward pass. It limits the memory.
    seeds : Tensor, (N,)
        One per image; they seed the noise.
    """
    assert seeds is not None
    relevance = [
        Tunnel(Saliency(explained(model, inputs)), random_keys(seed, samples)[0], noise).attribute(
            image,
            nt_type=kind,
            nt_samples=samples,
            nt_samples_batch_size=batch,
            additional_forward_args=target,
            abs=False,
        )
        for image, target, seed in zip(inputs.split(1), targets.split(1), seeds.split(1), strict=True)
    ]
    return torch.cat(relevance).detach()


class Tunnel(NoiseTunnel):  # type: ignore[misc]  # Captum states no types
    """Captum's, for one image, with a seed for each copy; noise: a share of its range, which stays on the device."""

    def __init__(self, method: Saliency, seeds: Tensor, noise: float):
        super().__init__(method)
        self.seeds, self.noise = seeds, noise

    def _add_noise_to_input(self, image: Tensor, _: float, copies: int) -> Tensor:
        seeds, self.seeds = self.seeds[:copies], self.seeds[copies:]
        return image + noise_for(image, seeds, self.noise)


def noise_for(image: Tensor, seeds: Tensor, share: float) -> Tensor:
    """Return normal noise, (copies, C, ...), whose deviation is a share of an image's range; image: (1, C, ...).

    seeds: (copies,), one a copy.
    """
    deviation = share * (image.max() - image.min()).double()
    uniform = ((random_keys(seeds, image.numel()) >> 11).double() + 0.5) / 2**52  # in (-1, 1), neither included
    normal = math.sqrt(2) * torch.erfinv(uniform)
    return (deviation * normal).view(len(seeds), *image.shape[1:]).to(image.dtype)
