"""Labelled inputs that are preprocessed already: tensors in memory, and the items of a torch Dataset."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from rapbench.core.errors import RapbenchError
from rapbench.core.names import checked_name, class_names_of
from rapbench.core.tensors import as_tensor, what_is
from rapbench.data.labelled.dataset import UNLABELLED, Dataset, Sample, is_inside

Item = Callable[[int], Tensor]


@dataclass(frozen=True)
class MemoryDataset(Dataset):
    """Inputs by their index.

    item: returns one, (C, *space) float32. hashes: the SHA-256 of each, when first read. masks: (*space,) bool by name,
    as far as they are known.
    """

    item: Item = field(kw_only=True, repr=False)
    hashes: tuple[str, ...] = field(kw_only=True, repr=False)
    of: tuple[int, ...] = field(kw_only=True)
    places: dict[str, int] = field(kw_only=True, repr=False)
    masks: dict[str, Tensor] = field(kw_only=True, repr=False, default_factory=dict)

    @property
    def where(self) -> str:
        """What the inputs are of, for a message."""
        return f"the data set {self.name}"

    @property
    def shape(self) -> tuple[int, ...]:
        """The inputs' shape, (C, *space)."""
        return self.of

    @property
    def identity(self) -> str:
        """SHA-256 over each input's name, label and content, in order."""
        lines = (f"{it.file} {it.label} {sha256}" for it, sha256 in zip(self.samples, self.hashes, strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def tensor(self, file: str) -> Tensor:
        """Return an input, (C, *space) float32. Raises RapbenchError where it is not what it was when first read."""
        index = self._index(file)
        found = self.item(index)
        if hash_of(found) != self.hashes[index]:
            raise RapbenchError(
                f"{file} of {self.where} is not what it was when it was first read; inputs must stay as they are, and "
                "a data set must give the same each time, without random augmentation"
            )
        return found

    def mask(self, file: str) -> Tensor | None:
        """Return where in an input is what should be found, (*space,) bool; None where that is not known."""
        return self.masks.get(file)

    def sha256(self, file: str) -> str:
        """Return the SHA-256 of an input, over its type, shape and bytes."""
        return self.hashes[self._index(file)]

    def read(self, file: str) -> bytes:
        """Raise OSError: there are no files."""
        raise OSError(f"{self.where} is of tensors, not of files")

    def _index(self, file: str) -> int:
        if file not in self.places:
            raise RapbenchError(f"{self.where} has no input {file!r}")
        return self.places[file]


def from_tensors(
    inputs: Any, labels: Any, names: Sequence[str] | None, *, name: str, class_names: Any, masks: Any = None
) -> Dataset:
    """Return what `Dataset.from_tensors` does."""
    tensor = as_tensor(inputs)
    if tensor is None or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise RapbenchError(f"inputs must be tensors of one shape, (N, C, ...), got {what_is(inputs)}")
    if not 3 <= tensor.dim() <= 5 or not tensor.numel():
        raise RapbenchError(f"inputs must be (N, C, ...) with 1 to 3 spatial dimensions, got {what_is(tensor)}")
    batch = tensor.detach()
    indices = [UNLABELLED] * len(batch) if labels is None else _labels(labels, len(batch))

    def item(index: int) -> Tensor:
        return _checked(batch[index], index)

    hashes, shape = _seen_once(map(item, range(len(batch))))
    found = _dataset(item, hashes, shape, indices, names, name, class_names)
    return found if masks is None else replace(found, masks=_masks(masks, found))


def from_torch(dataset: Any, names: Sequence[str] | None, *, name: str, class_names: Any) -> Dataset:
    """Return what `Dataset.from_torch` does."""
    kind = type(dataset).__name__
    if isinstance(dataset, IterableDataset) or not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise RapbenchError(f"a torch Dataset with a length and items by index is needed, got {what_is(dataset)}")
    if not len(dataset):
        raise RapbenchError(f"{kind} is empty")

    def pair(index: int) -> tuple[Tensor, Any]:
        item = dataset[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise RapbenchError(f"item {index} of {kind} must be a pair (input, label), got {what_is(item)}")
        return _checked(item[0], index), item[1]

    labels = []

    def first() -> Iterator[Tensor]:
        for index in range(len(dataset)):
            found, label = pair(index)
            labels.extend(_labels([label], 1, f"the label of item {index}"))
            yield found

    hashes, shape = _seen_once(first())
    return _dataset(lambda index: pair(index)[0], hashes, shape, labels, names, name or kind, class_names)


def hash_of(tensor: Tensor) -> str:
    """Return the SHA-256 over an input's type, shape and bytes."""
    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
    digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _seen_once(inputs: Iterable[Tensor]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the SHA-256 of each input, and the shape of all; RapbenchError where one has another."""
    hashes: list[str] = []
    shape: tuple[int, ...] = ()
    for index, found in enumerate(inputs):
        shape = shape or tuple(found.shape)
        if found.shape != shape:
            raise RapbenchError(f"input {index} has shape {tuple(found.shape)}, input 0 {shape}; inputs must be of one "
                                "shape")  # fmt: skip
        hashes.append(hash_of(found))
    return tuple(hashes), shape


def _dataset(
    item: Item, hashes: tuple[str, ...], shape: tuple[int, ...], labels: list[int], names: Any, name: str, given: Any
) -> MemoryDataset:
    count, classes = len(labels), class_names_of(given)
    for index, label in enumerate(labels):
        if classes and label >= len(classes):
            raise RapbenchError(f"input {index} has label {label}, but class_names has {len(classes)} names")
    files, name = _names(names, count), checked_name(name)
    samples = [Sample(file, label) for file, label in zip(files, labels, strict=True)]
    return MemoryDataset(
        name, Path(), samples, f"{count:,} inputs in memory ({name})", classes=len(classes) or None,
        class_names=classes, item=item, hashes=hashes, of=shape,
        places={file: index for index, file in enumerate(files)},
    )  # fmt: skip


def _checked(value: Any, index: int) -> Tensor:
    """Return an input as float32 on the CPU; RapbenchError where it is not preprocessed, or not finite."""
    tensor = as_tensor(value)
    if tensor is None or not 2 <= tensor.dim() <= 4 or not tensor.numel():
        raise RapbenchError(f"input {index} must be a tensor (C, ...) with 1 to 3 spatial dimensions, got "
                            f"{what_is(value)}")  # fmt: skip
    if not tensor.is_floating_point():
        raise RapbenchError(f"input {index} is {what_is(tensor)}; preprocess it to floating point, as the network was "
                            "trained: (x / 255 - mean) / std")  # fmt: skip
    tensor = tensor.detach().to("cpu", torch.float32)
    if not tensor.isfinite().all():
        raise RapbenchError(f"input {index} holds NaN or infinite values")
    return tensor


def _masks(given: Any, dataset: MemoryDataset) -> dict[str, Tensor]:
    """Return (*space,) masks by the inputs' names; RapbenchError where they are not one for each, of truth values."""
    space, count = dataset.of[1:], len(dataset.samples)
    listed = isinstance(given, (list, tuple)) and any(one is None for one in given)
    values = list(given) if listed else as_tensor(given)
    if values is None or (isinstance(values, Tensor) and not values.dim()) or len(values) != count:
        raise RapbenchError(f"masks must be {count}, one for each input, got {what_is(given)}")
    found = {}
    for index, (sample, value) in enumerate(zip(dataset.samples, values, strict=True)):
        if value is None:
            continue
        mask = as_tensor(value)
        if mask is None or mask.shape != space:
            raise RapbenchError(f"mask {index} must be of the shape of the inputs, {space}, got "
                                f"{what_is(value if mask is None else mask)}")  # fmt: skip
        if not ((mask == 0) | (mask == 1)).all():
            raise RapbenchError(f"mask {index} must hold truth values, or 0 and 1")
        found[sample.file] = mask.detach().to("cpu", torch.bool, copy=True)
    return found


def _labels(given: Any, count: int, what: str = "labels") -> list[int]:
    tensor = as_tensor(given, whole=True)
    whole = tensor is not None and not (
        tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool or tensor.is_quantized
    )
    if tensor is None or tensor.shape != (count,) or not whole:
        raise RapbenchError(f"{what} must be {count} class indices, one for each input, got "
                            f"{what_is(given if tensor is None else tensor)}")  # fmt: skip
    labels = [int(label) for label in tensor.tolist()]
    if min(labels) < 0:
        raise RapbenchError(f"label {min(labels)} is out of range: class indices start at 0")
    return labels


def _names(given: Any, count: int) -> list[str]:
    if given is None:
        return [str(index) for index in range(count)]
    if isinstance(given, (str, bytes)) or not isinstance(given, Sequence) or len(given) != count:
        raise RapbenchError(f"names must be {count} texts, one for each input, got {what_is(given)}")
    names = [checked_name(name, f"names[{index}]") for index, name in enumerate(given)]
    for index, name in enumerate(names):
        if not is_inside(name):
            raise RapbenchError(f"names[{index}]={name!r:.60} must be a relative file name, without ..")
    if len(set(names)) < count:
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise RapbenchError(f"names has {twice!r} twice; every input needs its own")
    return names
