"""What users give as numbers: tensors, arrays, lists of them; and what to call it in a message."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def what_is(value: Any) -> str:
    """Return what a value is, for a message."""
    if isinstance(value, Tensor):
        layout = "" if value.layout == torch.strided else "sparse "
        return f"{layout}{value.dtype} of shape {tuple(value.shape)}" + (" without data" if value.is_meta else "")
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype} of shape {value.shape}"
    text = repr(value)
    return text if isinstance(value, (str, int, float, bool)) and len(text) < 60 else f"a {type(value).__name__}"


def as_tensor(given: Any, whole: bool = False) -> Tensor | None:
    """Return numbers as a tensor, None where they are no numbers; whole: whether they must be whole ones."""
    if isinstance(given, Tensor):
        return given
    if isinstance(given, (list, tuple)) and given and all(isinstance(one, Tensor) for one in given):
        alike = {(one.shape, one.dtype, one.device) for one in given}
        return torch.stack(list(given)) if len(alike) == 1 and given[0].layout == torch.strided else None
    if isinstance(given, (str, bytes, dict, set, np.ma.MaskedArray)):
        return None
    if not isinstance(given, (Sequence, int, float, complex)) and not hasattr(given, "__array__"):
        return None
    try:
        array = np.asarray(given)
    except Exception:  # whatever an object's __array__ raises, and lists of unequal lengths
        return None
    if array.dtype.kind not in "biufc":
        return None
    if array.dtype.kind == "u":
        if array.size and array.max() > np.iinfo(np.int64).max:
            return None
        array = array.astype(np.int64) if whole else array
    if array.dtype.itemsize > 8 and array.dtype.kind == "f":
        array = array.astype(np.float64)
    try:  # a copy: torch takes neither a big-endian array nor one that is turned or read-only
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True))
    except TypeError:
        return None
