"""Where in a run's inputs is what should be found, as far as the data set knows it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.stop import check
from rapbench.core.tensors import what_is
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.labelled.marks import NotMarked
from rapbench.data.marks.painted import painted
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.choice import Choice
from rapbench.model.placement import Placement


@dataclass(frozen=True)
class Masks:
    """The masks of a run's inputs. Each is made when it is asked for; none is kept.

    Parameters
    ----------
    dataset : Dataset
    space : tuple of int
        Of the model's inputs.
    rows : sequence of Row
        All inputs of the run.
    transform : callable
        The model's preprocessing, through which boxes and masks of image files go.
    """

    dataset: Dataset = field(repr=False)
    space: tuple[int, ...]
    rows: Sequence[Row] = field(repr=False)
    transform: Callable[[Image.Image], Tensor] = field(repr=False)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each mask that is known, by file. Raises RapbenchError for one that is not of its input."""
        return {file: sha256 for file, (sha256, _) in self._looked_at.items() if sha256}

    @cached_property
    def unknown(self) -> dict[str, int]:
        """How many inputs have no mask for each reason that is known, most first."""
        return dict(Counter(reason for _, reason in self._looked_at.values() if reason).most_common())

    @property
    def sha256(self) -> str:
        """A hash over the masks of all inputs in order, those that are not known too."""
        lines = [f"space {self.space}", *(self.hashes.get(row.file, "") for row in self.rows)]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def said(self) -> str:
        """A sentence on how many masks are known, and why others are not; empty where all are."""
        if len(self.hashes) == len(self.rows):
            return ""
        reasons = [f"{count:,} {reason}" for reason, count in self.unknown.items()]
        known = f"What should be found is known of {len(self.hashes):,} of these images"
        return f"{known}; left out were {', '.join(reasons)}." if reasons else f"{known}."

    def of(self, rows: Sequence[Row]) -> Tensor:
        """Return the masks of some inputs, (N, *space) bool; False throughout where an input's is not known."""
        found = (self._mask(row.file) for row in rows)
        return torch.stack([torch.zeros(self.space, dtype=torch.bool) if mask is None else mask for mask in found])

    @cached_property
    def _looked_at(self) -> dict[str, tuple[str, str]]:
        """The SHA-256 of each input's mask, or why there is none, by file."""
        found = {}
        for row in self.rows:
            check()
            sha256 = reason = ""
            try:
                if (mask := self._made(row.file)) is not None:
                    sha256 = hashlib.sha256(mask.contiguous().numpy().tobytes()).hexdigest()
            except NotMarked as error:
                reason = str(error)
                if error.detail:
                    say(f"left out: {row.file}: {error.detail}")
            found[row.file] = (sha256, reason)
        return found

    def _mask(self, file: str) -> Tensor | None:
        try:
            return self._made(file)
        except NotMarked:
            return None

    def _made(self, file: str) -> Tensor | None:
        """Return an input's mask, None where that is not known; raise NotMarked where it is known why."""
        mask, marks = self.dataset.mask(file), self.dataset.marks
        if mask is None and marks is not None:
            mask = self._place(painted(self.dataset, file))
        if mask is not None and (mask.dtype != torch.bool or mask.shape != self.space):
            raise RapbenchError(f"the mask of {file} in {self.dataset.where} must be torch.bool of shape {self.space}, "
                                f"as the model's inputs, got {what_is(mask)}")  # fmt: skip
        if mask is None or not mask.any():  # an empty one says as little as none
            if marks is not None:
                raise NotMarked(f"with nothing of its {marks.name} in the model's input")
            return None
        if marks is not None and int(mask.sum()) > marks.most * mask.numel():
            raise NotMarked(f"with more than {marks.most:.0%} of the model's input inside its {marks.name}")
        return mask.cpu()

    @cached_property
    def _place(self) -> Placement:
        return Placement(self.transform)


def needing_masks(protocols: Sequence[Choice]) -> list[str]:
    """Return the labels of the protocols that need masks."""
    return [choice.label for choice in protocols if choice.protocol.needs_masks]


def check_masks(protocols: Sequence[Choice], dataset: Dataset) -> None:
    """Raise RapbenchError for a protocol that needs masks, on data that has none, before a model is loaded for it."""
    labels = needing_masks(protocols)
    if not labels or dataset.marks is not None:  # which data sets have only where they know of an image
        return
    if not any(dataset.mask(sample.file) is not None for sample in dataset.samples):
        raise RapbenchError(
            f"protocol {labels[0]!r}: it needs to know where in the inputs is what should be found, and "
            f"{dataset.where} has no masks; use data with masks, such as data.boxes= of imagenet, data.masks= of "
            "folder or rapbench.Dataset.from_tensors(..., masks=), or leave the protocol out"
        )


def with_masks(protocols: Sequence[Choice], known: Masks) -> list[Choice]:
    """Return the protocols with the SHA-256 of all masks for those that need them.

    Says how many inputs have none. Raises RapbenchError where no input of the run has one.
    """
    labels = needing_masks(protocols)
    if not labels:
        return list(protocols)
    if not known.hashes:
        reasons = "".join(f"; {count:,} {reason}" for reason, count in known.unknown.items())
        raise RapbenchError(f"protocol {labels[0]!r}: none of the {len(known.rows)} inputs of this run has a mask"
                            f"{reasons}; choose others")  # fmt: skip
    if known.unknown:
        say(known.said)
    sha256 = known.sha256
    return [replace(choice, files=choice.files | {"masks": sha256}) if choice.label in labels else choice
            for choice in protocols]  # fmt: skip
