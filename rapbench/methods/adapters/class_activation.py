"""Class activation maps through torchcam [fernandez2020torchcam]: a layer's channels, weighted and summed up."""

from typing import Any

import torch
from torch import Tensor, nn
from torchcam.methods import GradCAMpp, ScoreCAM, SmoothGradCAMpp
from torchcam.methods.core import _CAM

from rapbench.core.random import normal_at
from rapbench.methods.adapters.feature_maps import enlarged, probed
from rapbench.methods.adapters.gradient import check_gradient


def class_activation(
    kind: type[_CAM], model: nn.Module, inputs: Tensor, targets: Tensor, layer: str | None, method: str, **options: Any
) -> Tensor:
    """Return one of torchcam's maps, 0 or more, interpolated to the image, shaped like `inputs`.

    layer: see `probed`. method: for messages. options: of the class.
    """
    if kind is not Score:  # which takes none
        check_gradient(model, inputs)
    network = probed(model, inputs, layer, method)
    with kind(network, "probe", **options) as extractor, torch.enable_grad():
        scores = network(inputs.requires_grad_())
        (maps,) = extractor(targets.tolist(), scores, normalized=False)
    return enlarged(maps, inputs)


class PlusPlus(GradCAMpp):  # type: ignore[misc]  # torchcam states no types that mypy sees
    """Grad-CAM++ with the weights of its paper; torchcam 0.5 leaves out their denominator."""

    def _get_weights(self, class_idx: Any, scores: Tensor, **options: Any) -> list[Tensor]:
        self._backprop(scores, class_idx, **options)
        (gradient,), (maps,) = self.hook_g, self.hook_a
        return [_weights(maps, gradient, gradient**2, gradient**3)]


class SmoothPlusPlus(SmoothGradCAMpp):  # type: ignore[misc]
    """Smooth Grad-CAM++ with the mean of all derivatives, and the maps of the image itself.

    torchcam 0.5 takes the first derivative, and the maps that are weighted, of the last noisy copy alone. Here the
    noise is seeded by the image, and its deviation a share of the image's range.
    """

    hook_a: list[Tensor]

    def __init__(self, model: nn.Module, layer: str, *, samples: int, noise: float, seeds: Tensor):
        super().__init__(model, layer, num_samples=samples)
        self.noise, self.seeds = noise, seeds

    def _compute_smoothgrad_weights(self, class_idx: Any, eps: float, **options: Any) -> list[Tensor]:
        maps: Tensor = self.hook_a[0]
        image = self._input
        flat = image.flatten(1)
        deviation = self.noise * (flat.amax(1) - flat.amin(1)).double()
        places = torch.arange(flat.shape[1], device=image.device)[None]
        sums = [torch.zeros_like(maps) for _ in range(3)]
        for copy in range(self.num_samples):
            drawn = normal_at(self.seeds, places + copy * flat.shape[1]) * deviation[:, None]
            noisy = image + drawn.view_as(image).to(image.dtype)
            self._backprop(self.model(noisy.requires_grad_()), class_idx, **options)
            for power, total in enumerate(sums, 1):
                total += self.hook_g[0] ** power
        self.hook_a = [maps]
        return [_weights(maps, *(total / self.num_samples for total in sums))]


class Score(ScoreCAM):  # type: ignore[misc]
    """Score-CAM of images of any dimensions."""

    def _upsample(self, activation: Tensor) -> Tensor:
        return enlarged(activation[:, 0], self._input[:1, :1].expand(len(activation), *self._input.shape[1:]))[:, :1]


def _weights(maps: Tensor, first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """Return Grad-CAM++'s weights, (N, channels), of maps and derivatives by powers, (N, channels, *space)."""
    sums = maps.flatten(2).sum(2).view(*maps.shape[:2], *[1] * (maps.dim() - 2))
    below = 2 * second + sums * third
    share = torch.where(below != 0, second / torch.where(below != 0, below, 1), 0)
    return (share * first.relu()).flatten(2).sum(2)
