"""SmoothGrad [smilkov2017smoothgrad]: the gradient's mean over noisy copies of the image, through Captum.

Captum draws noise from the global generator, batch by batch. Here the noise is seeded by the image's seed, so that it
is the same in every batch, for every value of `batch`, and on every device.
"""

import math

import torch
from captum.attr import NoiseTunnel, Saliency
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from rapbench.core.random import random_keys
from rapbench.methods import methods
from rapbench.methods.adapters.target import explained


@methods.register("smoothgrad", title="SmoothGrad", signs=("positive",), passes=109, random=True)
def smoothgrad(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    samples: PositiveInt = 50,
    noise: NonNegativeFloat = 0.15,
    batch: PositiveInt = 8,
    seeds: Tensor | None = None,
) -> Tensor:
    """Return the magnitude of the gradient's mean over noisy copies.

    Parameters
    ----------
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

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more.
    """
    assert seeds is not None
    relevance = [
        Tunnel(Saliency(explained(model, inputs)), random_keys(seed, samples)[0], noise).attribute(
            image,
            nt_samples=samples,
            nt_samples_batch_size=batch,
            additional_forward_args=target,
            abs=False,
        )
        for image, target, seed in zip(inputs.split(1), targets.split(1), seeds.split(1), strict=True)
    ]
    return torch.cat(relevance).detach().abs()


class Tunnel(NoiseTunnel):  # type: ignore[misc]  # Captum states no types
    """Captum's, for one image, with a seed for each copy; noise: a share of its range, which stays on the device."""

    def __init__(self, method: Saliency, seeds: Tensor, noise: float):
        super().__init__(method)
        self.seeds, self.noise = seeds, noise

    def _add_noise_to_input(self, image: Tensor, _: float, copies: int) -> Tensor:
        deviation = self.noise * (image.max() - image.min()).double()
        seeds, self.seeds = self.seeds[:copies], self.seeds[copies:]
        uniform = ((random_keys(seeds, image.numel()) >> 11).double() + 0.5) / 2**52  # in (-1, 1), neither included
        normal = math.sqrt(2) * torch.erfinv(uniform)
        return image + (deviation * normal).view(copies, *image.shape[1:]).to(image.dtype)
