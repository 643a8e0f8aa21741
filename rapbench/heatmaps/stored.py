"""Arrays in files or in memory whose shape and type are known before a number is read; data, never code."""

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.files import open_regular
from rapbench.data.layouts.bounded import Bounded
from rapbench.zoo.weights.pth import refuse_unpacking

HEADS: Any = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
MOST_HEAD = 1 << 16  # bytes of what a .npy file says of itself
MOST_AT_ONCE = 256 << 20  # bytes of one heatmap; with all its channels it is as large as an image, hardly more
MOST_PT = 4 << 30  # bytes of a .pt file, which is read as a whole
FLOATS = {np.dtype(f"{order}f{size}") for size in (2, 4, 8) for order in "<>"}
DTYPES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8}  # of safetensors, with their bytes
SAVE = "save floating-point numbers, such as float32"


@dataclass(frozen=True)
class Stored:
    """An array. where: what messages call it. read: its part at a place of the first axis, or for None all of it."""

    where: str
    shape: tuple[int, ...]
    size: int  # bytes of an element
    read: Callable[[int | None], Tensor]

    def part(self, place: int) -> "Stored":
        """Return the array at a place of the first axis."""
        return Stored(f"{self.where}, number {place + 1},", self.shape[1:], self.size, lambda _: self.read(place))


def open_stored(path: Path) -> "Stored | dict[str, Stored]":
    """Return the array that a file holds, or its arrays by name. Nothing but its head is read, of a .pt file all.

    path: ends with .npy, .safetensors or .pt. Raises RapbenchError for a file that cannot be read, or holds something
    else.
    """
    try:
        if path.suffix == ".npy":
            return _npy(path)
        return _safetensors(path) if path.suffix == ".safetensors" else _pt(path)
    except OSError as error:
        raise RapbenchError(f"{path} cannot be read ({error.strerror or error})") from error


def in_memory(values: Any, where: str) -> Stored:
    """Return a tensor or array as what a file would hold. Raises RapbenchError for anything else."""
    if isinstance(values, np.ndarray):
        if values.dtype not in FLOATS:
            raise RapbenchError(f"{where} is of type {values.dtype}; {SAVE}")
        values = torch.from_numpy(np.array(values, values.dtype.newbyteorder("=")))
    if not isinstance(values, Tensor):
        raise RapbenchError(f"{where} must be a tensor, got {type(values).__name__}")
    if values.layout != torch.strided or values.device.type == "meta":
        raise RapbenchError(f"{where} is no dense tensor; save it as one")
    if not values.is_floating_point():
        raise RapbenchError(f"{where} is of type {values.dtype}; {SAVE}")
    tensor = values.detach()
    return Stored(where, tuple(tensor.shape), tensor.element_size(),
                  lambda place: (tensor if place is None else tensor[place]).cpu())  # fmt: skip


def _npy(path: Path) -> Stored:
    with open_regular(path) as file:
        try:
            head: Any = Bounded(file, MOST_HEAD)
            version = np.lib.format.read_magic(head)
            shape, by_columns, dtype = HEADS[version](head)
        except Exception as error:  # whatever its bytes lead numpy to
            raise RapbenchError(f"{path} is not a .npy file of numbers, or is cut short") from error
        start, held = file.tell(), path.stat().st_size
    if dtype not in FLOATS:
        raise RapbenchError(f"{path} is of type {dtype}; {SAVE}")
    if held - start != int(np.prod(shape, dtype=object)) * dtype.itemsize:
        raise RapbenchError(
            f"{path} holds {held - start:,} bytes for shape {shape} of {dtype}; it is cut short or broken"
        )

    def read(place: int | None) -> Tensor:
        if place is not None and by_columns:
            raise RapbenchError(f"{path} is in Fortran order; save numpy.ascontiguousarray of it")
        wanted = shape if place is None else shape[1:]
        count = int(np.prod(wanted, dtype=object))
        with open_regular(path) as file:
            file.seek(start + (place or 0) * count * dtype.itemsize)
            data = file.read(count * dtype.itemsize)
        if len(data) != count * dtype.itemsize:
            raise RapbenchError(f"{path} was cut short while it was read")
        values = np.frombuffer(data, dtype).reshape(wanted, order="F" if by_columns else "C")
        return torch.from_numpy(np.array(values, dtype.newbyteorder("="), order="C"))

    return Stored(str(path), shape, dtype.itemsize, read)


def _safetensors(path: Path) -> dict[str, Stored]:
    with open_regular(path):  # a pipe would be waited for
        pass
    try:
        with safe_open(path, "pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  it is no mapping
            heads = {name: (tuple(it.get_shape()), it.get_dtype()) for name, it in slices.items()}
    except SafetensorError as error:
        raise RapbenchError(f"{path} is not a safetensors file, or is cut short ({error})") from error

    def read(name: str, place: int | None) -> Tensor:
        try:
            with safe_open(path, "pt") as file:
                found: Tensor = file.get_tensor(name) if place is None else file.get_slice(name)[place]
                return found
        except SafetensorError as error:
            raise RapbenchError(f"{path} was changed while it was read ({error})") from error

    for name, (_, dtype) in heads.items():
        if dtype not in DTYPES:
            raise RapbenchError(f"{path}: {name} is of type {dtype}; {SAVE}")
    return {name: Stored(f"{path}: {name}", shape, DTYPES[dtype], partial(read, name))
            for name, (shape, dtype) in heads.items()}  # fmt: skip


def _pt(path: Path) -> "Stored | dict[str, Stored]":
    with open_regular(path):
        pass
    if path.stat().st_size > MOST_PT:
        raise RapbenchError(f"{path} is larger than {MOST_PT >> 30} GB; save it as .npy or .safetensors")
    refuse_unpacking(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever the bytes lead torch's readers to
        raise RapbenchError(
            f"{path} is no file of tensors alone, or is cut short; save a tensor with torch.save"
        ) from error
    if isinstance(found, Mapping):
        return {str(name): in_memory(value, f"{path}: {name}") for name, value in found.items()}
    return in_memory(found, str(path))
