"""The embedded images with a mask of each but the first: what should be found is said to lie in a square.

Imported by its name alone, as data=tests.masked:masked, or the data set would be one of rapbench's to every test.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from rapbench.data import datasets
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.samples import samples
from tests.small import SPACE


@dataclass(frozen=True)
class Masked(Dataset):
    """Masks of the size of `small`'s inputs."""

    def mask(self, file: str) -> Tensor | None:
        place = [sample.file for sample in self.samples].index(file)
        mask = torch.zeros(SPACE, dtype=torch.bool)
        mask[place : place + 24, 2 * place :] = True
        return mask if place else None


@datasets.register("masked")
def masked() -> Dataset:
    return Masked(**vars(samples()))
