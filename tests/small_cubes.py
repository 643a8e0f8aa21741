"""Cubes of 16 voxels in memory, with a bright ball in the middle of each nodule, and a network of two layers for them.

For what does not need computed tomography: epochs, training, resuming, figures over folds.
"""

from functools import cached_property

import numpy as np
from torch import nn

from rapbench.data.ct.cubes import Cubes

SIZE, MARGIN = 16, 4


class Balls(Cubes):
    """Every third candidate is a nodule; four candidates to a scan."""

    name = "balls"
    size, margin = SIZE, MARGIN

    def __init__(self, count: int = 96, seed: int = 0):
        """Take how many candidates there are."""
        self.seed, self.identity = seed, f"balls {count} {seed}"
        self.scan = (np.arange(count) // 4).astype(np.int32)
        self.scans = tuple(f"scan-{number:03d}" for number in range(int(self.scan.max()) + 1))
        self.label = (np.arange(count) % 3 == 0).astype(np.uint8)
        self.names = [f"{self.scans[scan]}/{row}" for row, scan in enumerate(self.scan)]

    def cube(self, index: int, margin: int = 0) -> np.ndarray:
        """Return noise, with a ball in it where it is a nodule."""
        if margin and self.label[index] != 1:
            raise ValueError("only nodules have a margin")
        side = self.size + 2 * self.margin
        noise = np.random.default_rng([self.seed, index]).normal(-850, 60, (side,) * 3)
        if self.label[index]:
            noise[self._ball] += 900
        return self.inner(noise.astype(np.int16), margin)

    def mask(self, index: int, margin: int = 0) -> np.ndarray | None:
        """Return the ball."""
        return self.inner(self._ball, margin) if self.label[index] else None

    @cached_property
    def _ball(self) -> np.ndarray:
        side = self.size + 2 * self.margin
        places = np.stack(np.meshgrid(*[np.arange(side) - (side - 1) / 2] * 3, indexing="ij"))
        return np.asarray((places**2).sum(0) < 4**2)


class Net(nn.Sequential):
    """Two convolutions with norms, dropout, and two logits."""

    def __init__(self):
        """Draw the weights."""
        super().__init__(
            nn.Conv3d(1, 4, 3, padding=1, bias=False), nn.BatchNorm3d(4), nn.ReLU(), nn.MaxPool3d(4),
            nn.Conv3d(4, 6, 3, padding=1, bias=False), nn.BatchNorm3d(6), nn.ReLU(), nn.Flatten(),
            nn.Dropout(), nn.Linear(6 * (SIZE // 4) ** 3, 2),
        )  # fmt: skip
