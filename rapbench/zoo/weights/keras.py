"""Keras' weights files (HDF5): find the file, read it, and fill a network that is laid out as Keras' own.

None of Keras' VGG-16, ResNet-50 and Inception-V3 has a strided layer with 'same' padding, the only kind that Keras pads
unevenly, so their padding is torch's.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import needed
from rapbench.core.files import file_hash
from rapbench.core.paths import cache_folder, user_path
from rapbench.model import OWN, Facts
from rapbench.model.preprocessing import Preprocess
from rapbench.zoo.weights.downloads import fetch
from rapbench.zoo.weights.match import refuse_mismatch

# Means of the Caffe models that Keras converted, blue first, on 0..255.
CAFFE = Preprocess(mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), bgr=True)

Layers = Mapping[str, list[np.ndarray]]


@dataclass(frozen=True)
class Official:
    """Keras' own file: its name, the address Keras downloads it from, and the MD5 sums Keras checks it by."""

    file: str
    address: str
    md5: tuple[str, ...]


def find(official: Official, path: str | None) -> Path | None:
    """Return the file at `path`; without one, the official file in Keras' or our cache folder, or None.

    Raises RapbenchError when `path` is no file, or when a cached file is not the official one.
    """
    if path is not None:
        file = user_path(path, "model.path")
        if not file.is_file():
            raise RapbenchError(f"model.path: {file} is not a file")
        return file
    keras = Path(os.environ.get("KERAS_HOME") or os.path.expanduser("~/.keras")) / "models"
    for file in (keras / official.file, _cached(official)):
        if file.is_file():
            if file_hash(file, "md5") not in official.md5:
                raise RapbenchError(
                    f"{file} is not Keras' official file (its MD5 differs); delete it, or use it with model.path={file}"
                )
            return file
    return None


def download(official: Official) -> Path:
    """Fetch the official file into our cache folder. Raises RapbenchError when it cannot be had or is another file."""
    file = _cached(official)
    partial = file.with_suffix(".part")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        fetch(official.address, partial)
        if file_hash(partial, "md5") not in official.md5:
            partial.unlink()
            raise RapbenchError(f"{official.file} was downloaded, but is not Keras' official file (its MD5 differs)")
        partial.rename(file)
    except (OSError, RuntimeError) as error:
        raise RapbenchError(
            f"cannot download {official.file} ({error}); get it from {official.address} and put it at {file}, or name "
            "it with model.path=FILE"
        ) from error
    return file


def read_layers(path: Path) -> dict[str, list[np.ndarray]]:
    """Return each layer's weights of an HDF5 file, as `hdf5.read_layers` does; RapbenchError without h5py."""
    with needed("keras", "a weights file of Keras"):
        from rapbench.zoo.weights import hdf5
    return hdf5.read_layers(path)


def classes_in(layers: Layers, classifier: str, where: str) -> int:
    """Return the number of classes; RapbenchError when the file lacks the classifier."""
    if classifier not in layers:
        raise RapbenchError(f"{where} lacks the classifier {classifier!r}; a file without top (_notop) cannot be used")
    return int(layers[classifier][-1].shape[-1])


def fill(
    modules: Mapping[str, nn.Module], layers: Layers, where: str, flattened: Mapping[str, int] | None = None
) -> None:
    """Copy Keras' layers into torch's modules of the same meaning.

    flattened: for a dense layer behind a flattened map, the map's area; Keras flattens channels last, torch first.
    Raises RapbenchError that names a layer which is missing, unknown or of another shape.
    """
    refuse_mismatch(modules, layers, where, "is it this model's file?")
    for name, module in modules.items():
        slots = _slots(module, len(layers[name]))
        if len(slots) != len(layers[name]):
            raise RapbenchError(f"{where}: layer {name} has {len(layers[name])} weights, expected {len(slots)}")
        for slot, theirs in zip(slots, layers[name], strict=True):
            array = _as_torch(theirs, (flattened or {}).get(name, 1))
            if slot.shape != array.shape:
                raise RapbenchError(f"{where}: layer {name} has a weight of shape {theirs.shape}, which is "
                                    f"{array.shape} here, expected {tuple(slot.shape)}")  # fmt: skip
            with torch.no_grad():
                slot.copy_(torch.tensor(array))


def facts_of(facts: Facts, official: Official, file: Path, classes: int) -> Facts:
    """Return the facts of what a file holds: Keras' own weights, or a user's."""
    if file_hash(file, "md5") in official.md5:
        return replace(facts, source=f"Keras' {official.file}")
    return replace(
        facts,
        source=f"{file.name} (not Keras' official file)",
        licence=OWN,
        classes=classes,
        top1=None,
        hash=f"SHA-256 of the file, {file_hash(file)}",
    )


def _cached(official: Official) -> Path:
    return cache_folder() / "keras" / official.file


def _slots(module: nn.Module, count: int) -> list[Tensor]:
    """Return a module's tensors in Keras' order; a batch norm without gamma has one fewer."""
    if isinstance(module, nn.BatchNorm2d):
        tensors = [module.weight, module.bias, module.running_mean, module.running_var]
        return [tensor for tensor in tensors[-count if count == 3 else 0 :] if tensor is not None]
    return [tensor for tensor in (module.weight, module.bias) if isinstance(tensor, Tensor)]


def _as_torch(array: np.ndarray, area: int) -> np.ndarray:
    """Turn a kernel (h, w, in, out) to (out, in, h, w), and a dense one (in, out) to (out, in), channels first."""
    if array.ndim == 4:
        return array.transpose(3, 2, 0, 1)
    if array.ndim == 2:
        return array.reshape(area, -1, array.shape[1]).transpose(2, 1, 0).reshape(array.shape[1], -1)
    return array
