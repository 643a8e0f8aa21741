"""Cubes as a network takes them, for torch's DataLoader: an epoch's items augmented, or candidates as they are."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rapbench.training.epoch import Indices, Item, item_seed
from rapbench.training.settings import Augment, TrainingSettings

if TYPE_CHECKING:
    from rapbench.data.ct.cubes import Cubes
    from rapbench.training.augmentation import Augmentation


class Candidates(Dataset[tuple[Tensor, int]]):
    """Candidates as they are: (1, size, size, size) on 0..1, and the label."""

    def __init__(self, cubes: "Cubes", indices: Indices, labels: NDArray[np.uint8]):
        self.cubes, self.indices, self.labels = cubes, indices, labels

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = int(self.indices[place])
        return torch.from_numpy(self.cubes.scaled(self.cubes.cube(index))[None]), int(self.labels[index])


class EpochSamples(Dataset[tuple[Tensor, int]]):
    """An epoch's items. An item's input depends on (seed, epoch, item) alone, whichever process asks for it."""

    def __init__(
        self, cubes: "Cubes", items: list[Item], labels: NDArray[np.uint8], settings: TrainingSettings,
        augmentations: dict[int, "Augmentation"], seed: int, epoch: int,
    ):  # fmt: skip
        self.cubes, self.items, self.labels, self.settings = cubes, items, labels, settings
        self.augmentations, self.seed, self.epoch = augmentations, seed, epoch  # augmentations: by margin

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        item = self.items[place]
        label = int(self.labels[item.candidate])
        if label != 1 and self.settings.augment is Augment.nodules:
            return torch.from_numpy(self.cubes.scaled(self.cubes.cube(item.candidate))[None]), label
        margin = self.cubes.margin if self.cubes.label[item.candidate] == 1 else 0  # whatever it is trained as
        cube = self.cubes.scaled(self.cubes.cube(item.candidate, margin))
        seed = item_seed(self.seed, self.epoch, item)
        return self.augmentations[margin](cube, seed, turned=item.repeat > 0), label


@dataclass(frozen=True)
class Plans:
    """All epochs of a fold: an epoch's number to its samples. It can be sent to another process.

    items: of each epoch. augmentations: by the margin of the cubes.
    """

    cubes: "Cubes"
    items: list[list[Item]]
    labels: NDArray[np.uint8]
    settings: TrainingSettings
    augmentations: dict[int, "Augmentation"]
    seed: int

    def __call__(self, epoch: int) -> EpochSamples:
        """Return an epoch's samples."""
        return EpochSamples(self.cubes, self.items[epoch], self.labels, self.settings, self.augmentations, self.seed,
                            epoch)  # fmt: skip
