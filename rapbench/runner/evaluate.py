"""The model to ask, and a protocol's answers as a table: one copy back per chunk."""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.errors import RapbenchError
from rapbench.layout import channels_last
from rapbench.precision import Precision
from rapbench.protocols.batch import Batch, Forward, Step

if TYPE_CHECKING:
    from rapbench.protocols.protocol import Protocol


def forward_of(network: nn.Module, precision: Precision) -> Forward:
    """Return images (N, C, *space) float32 -> logits (N, classes) float32, computed channels-last in `precision`.

    The network itself is not changed: bf16 works on a copy.
    """
    dtype = torch.float32
    if precision is Precision.bf16:
        dtype = torch.bfloat16
        network = copy.deepcopy(network).to(dtype)

    def forward(images: Tensor) -> Tensor:
        return network(channels_last(images.to(dtype))).float()

    return forward


def table_of(batch: Batch, protocol: "Protocol", variants: dict[str, list[Step]]) -> dict[str, np.ndarray]:
    """Return a protocol's columns for a batch, step by step within an input, input by input within a variant.

    Columns: row (index in the batch), variant, k (as text), and the protocol's own. Raises RapbenchError where these
    are not those that its metrics promise.
    """
    names = [metric.name for metric in protocol.metrics]
    rows = len(batch.labels)
    parts: list[list[Tensor]] = []
    places: dict[str, list[np.ndarray]] = {"row": [], "variant": [], "k": []}
    with torch.inference_mode():
        for variant, steps in variants.items():
            found = protocol.evaluate(batch, variant, steps)
            if sorted(found) != sorted(names):
                raise RapbenchError(f"{type(protocol).__name__}.evaluate must return {', '.join(names)}, got "
                                    f"{', '.join(found) or 'nothing'}")  # fmt: skip
            for name, values in found.items():
                if values.shape != (rows, len(steps)):
                    raise RapbenchError(f"{type(protocol).__name__}.evaluate must return {name} of shape "
                                        f"{(rows, len(steps))}, got {tuple(values.shape)}")  # fmt: skip
            parts.append([found[name] for name in names])
            places["row"].append(np.repeat(np.arange(rows, dtype=np.int32), len(steps)))
            places["variant"].append(np.full(rows * len(steps), variant))
            places["k"].append(np.tile(np.array([str(step) for step in steps]), rows))
        types = [_TYPES.get(values.dtype, np.float32) for values in parts[0]]
        packed = torch.cat([torch.stack([values.double().flatten() for values in part]) for part in parts], 1)
    found_columns = zip(names, packed.cpu().numpy(), types, strict=True)  # the one copy back
    return {name: np.concatenate(arrays) for name, arrays in places.items()} | {
        name: values.astype(kind) for name, values, kind in found_columns
    }


# Of a column in the results, where it is not float32.
_TYPES: dict[torch.dtype, type] = {torch.int64: np.int32, torch.int32: np.int32, torch.bool: np.bool_,
                                   torch.float64: np.float64}  # fmt: skip
