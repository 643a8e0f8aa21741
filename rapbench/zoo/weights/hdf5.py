"""The weights in a file of Keras (HDF5), layer by layer; nothing that it links to elsewhere is followed."""

import math
from pathlib import Path

import h5py
import numpy as np

from rapbench.core.errors import RapbenchError

# HDF5 can stand for more than it holds, by compression and by values that were never written; weights hardly compress.
MOST_UNPACKED = 8  # times the file's size
MOST_NAMES = 1 << 20  # bytes of an attribute


def read_layers(path: Path) -> dict[str, list[np.ndarray]]:
    """Return each layer's weights, in the file's order; layers without weights are left out.

    Their names differ between versions of Keras (conv1_W_1:0, conv1/kernel:0), so only layers go by name, as in Keras.
    Raises RapbenchError when the file is not in Keras' HDF5 format, or leads to anything outside of it.
    """
    try:
        room = MOST_UNPACKED * path.stat().st_size
        layers: dict[str, list[np.ndarray]] = {}
        with h5py.File(path, "r") as file:
            group = _group(file, "model_weights") if _has(file, "model_weights") else file
            if _has(group, "layers") and not _names(group, "layer_names"):
                raise RapbenchError(f"{path} is in the format of Keras 3; save it with model.save('NAME.h5') instead")
            for layer in _names(group, "layer_names"):
                inside = _group(group, layer)
                found = [_dataset(inside, name) for name in _names(inside, "weight_names")]
                room -= sum(weight.nbytes for weight in found)
                if room < 0:
                    raise ValueError(f"its weights take over {MOST_UNPACKED} times its own size")
                layers[layer] = [np.asarray(weight) for weight in found]
    except (ValueError, TypeError, MemoryError) as error:
        raise RapbenchError(f"{path} cannot be read as a weights file of Keras (.h5): {error}") from error
    except (OSError, KeyError, RuntimeError) as error:
        if path.suffix.lower() == ".keras":
            raise RapbenchError(f"{path} is in the format of Keras 3; save it with model.save('NAME.h5') instead"
                                ) from error  # fmt: skip
        raise RapbenchError(f"{path} is not a weights file of Keras (.h5), or is cut short ({error})") from error
    layers = {name: weights for name, weights in layers.items() if weights}
    if not layers:
        raise RapbenchError(f"{path} names no layers with weights; is it a weights file of Keras (.h5)?")
    return layers


def _group(group: h5py.Group, name: str) -> h5py.Group:
    found = _inside(group, name)
    if not isinstance(found, h5py.Group):
        raise ValueError(f"{name} is not a group")
    return found


def _dataset(group: h5py.Group, name: str) -> h5py.Dataset:
    """Return a data set of numbers that lie in the file itself."""
    found = _inside(group, name)
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiu":
        raise ValueError(f"{name} holds no numbers")
    if found.external is not None or found.is_virtual:
        raise ValueError(f"{name} has its values in another file, which is not followed")
    return found


def _inside(group: h5py.Group, path: str) -> h5py.HLObject:
    """Return what lies at a path below a group, without following any link to elsewhere."""
    for name in (part for part in path.split("/") if part):
        if not isinstance(group, h5py.Group):
            raise KeyError(name)
        if not _has(group, name):
            raise KeyError(name)
        if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise ValueError(f"{name} is a link to elsewhere, which is not followed")
        group = group[name]
    return group


def _has(group: h5py.Group, name: str) -> bool:
    """Whether a group has a link of that name; `in` would follow it."""
    return bool(group.id.links.exists(name.encode()))


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """Return a list of names; HDF5 limits an attribute's size, so Keras cuts a long one into name0, name1, ..."""
    parts = [attribute] if attribute in group.attrs else []
    while f"{attribute}{len(parts)}" in group.attrs:
        parts.append(f"{attribute}{len(parts)}")
    for part in parts:
        stored = group.attrs.get_id(part)
        if len(stored.shape or ()) != 1 or math.prod(stored.shape) * stored.dtype.itemsize > MOST_NAMES:
            raise ValueError(f"its attribute {part} is no list of names")
    names = [name for part in parts for name in group.attrs[part]]
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]
