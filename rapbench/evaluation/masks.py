"""Where in a run's inputs is what should be found, as far as the data set knows it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.tensors import what_is
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.choice import Choice


@dataclass(frozen=True)
class Masks:
    """The masks of a run's inputs.

    Parameters
    ----------
    dataset : Dataset
    space : tuple of int
        Of the model's inputs.
    rows : sequence of Row
        All inputs of the run.
    """

    dataset: Dataset = field(repr=False)
    space: tuple[int, ...]
    rows: Sequence[Row] = field(repr=False)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each mask that is known, by file. Raises RapbenchError for one that is not of its input."""
        found = {}
        for row in self.rows:
            if (mask := self._mask(row.file)) is not None:
                found[row.file] = hashlib.sha256(mask.contiguous().numpy().tobytes()).hexdigest()
        return found

    @property
    def sha256(self) -> str:
        """A hash over the masks of all inputs in order, those that are not known too."""
        lines = [f"space {self.space}", *(self.hashes.get(row.file, "") for row in self.rows)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def of(self, rows: Sequence[Row]) -> Tensor:
        """Return the masks of some inputs, (N, *space) bool; False throughout where an input's is not known."""
        found = (self._mask(row.file) for row in rows)
        return torch.stack([torch.zeros(self.space, dtype=torch.bool) if mask is None else mask for mask in found])

    def _mask(self, file: str) -> Tensor | None:
        mask = self.dataset.mask(file)
        if mask is not None and (mask.dtype != torch.bool or mask.shape != self.space):
            raise RapbenchError(f"the mask of {file} in {self.dataset.where} must be torch.bool of shape {self.space}, "
                                f"as the model's inputs, got {what_is(mask)}")  # fmt: skip
        return mask.cpu() if mask is not None and mask.any() else None  # an empty one says as little as none


def needing_masks(protocols: Sequence[Choice]) -> list[str]:
    """Return the labels of the protocols that need masks."""
    return [choice.label for choice in protocols if choice.protocol.needs_masks]


def check_masks(protocols: Sequence[Choice], dataset: Dataset) -> None:
    """Raise RapbenchError for a protocol that needs masks, on data that has none, before a model is loaded for it."""
    labels = needing_masks(protocols)
    if labels and not any(dataset.mask(sample.file) is not None for sample in dataset.samples):
        raise RapbenchError(
            f"protocol {labels[0]!r}: it needs to know where in the inputs is what should be found, and "
            f"{dataset.where} has no masks; use data with masks, such as rapbench.Dataset.from_tensors(..., masks=), "
            "or leave the protocol out"
        )


def with_masks(protocols: Sequence[Choice], known: Masks) -> list[Choice]:
    """Return the protocols with the SHA-256 of all masks for those that need them.

    Raises RapbenchError where no input of the run has one.
    """
    labels = needing_masks(protocols)
    if not labels:
        return list(protocols)
    if not known.hashes:
        raise RapbenchError(f"protocol {labels[0]!r}: none of the {len(known.rows)} inputs of this run has a mask; "
                            "choose others")  # fmt: skip
    sha256 = known.sha256
    return [replace(choice, files=choice.files | {"masks": sha256}) if choice.label in labels else choice
            for choice in protocols]  # fmt: skip
