"""A nodule's cube, moved, turned, sheared, scaled and mirrored by chance, with MONAI's transforms.

The first copy of a nodule in an epoch is only moved by whole voxels and mirrored: its voxels are those of the scan. If
all copies were interpolated, a network could tell nodules by their smoother noise.
"""

import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import needed
from rapbench.training.settings import TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Augmentation:
    """Makes (1, size, size, size) float32 inputs of cubes with a margin around them.

    settings: how far. size: voxels. margin: how many more a cube has on each side; with none, nothing is moved. Raises
    RapbenchError where the cubes are moved beyond the margin.
    """

    def __init__(self, settings: TrainingSettings, size: int, margin: int):
        if margin and settings.shift > margin:
            raise RapbenchError(
                f"training.shift={settings.shift} moves a cube out of what is cut: at most {margin} voxels"
            )
        with warnings.catch_warnings(), needed("luna16", "rapbench train"):
            warnings.simplefilter("ignore")
            from monai import transforms
        self.margin, shift = margin, settings.shift if margin else 0
        reach = size + 2 * shift
        turn = math.radians(settings.rotation)
        affine = transforms.RandAffine(
            prob=1.0, rotate_range=(turn,) * 3, shear_range=(settings.shear,) * 6, scale_range=(settings.scaling,) * 3,
            spatial_size=(reach,) * 3, mode="bilinear", padding_mode="border", cache_grid=True,
        )  # fmt: skip
        end: list[Any] = [transforms.RandSpatialCrop((size,) * 3, random_size=False)] if shift else []
        end += [transforms.RandFlip(0.5, axis) for axis in range(3) if settings.flips]
        self._plain = transforms.Compose([transforms.CenterSpatialCrop((reach,) * 3), *end])
        self._turned = transforms.Compose([affine, *end])

    def __call__(self, cube: "NDArray[np.float32]", seed: int, *, turned: bool) -> Tensor:
        """Return an input of a cube, (size + 2 margin,) * 3. seed: below 2^32. turned: else moved and mirrored only."""
        transform = self._turned if turned else self._plain
        transform.set_random_state(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = transform(torch.from_numpy(cube)[None])
        found: Tensor = made.as_tensor() if hasattr(made, "as_tensor") else made
        return found.contiguous()
