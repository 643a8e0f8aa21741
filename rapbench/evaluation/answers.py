"""The model to ask, and a protocol's answers as a table: one copy back from the device."""

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.memory_format import channels_last
from rapbench.core.precision import Precision
from rapbench.protocols.base.batch import Batch, Forward, Step

if TYPE_CHECKING:
    from rapbench.protocols.base.protocol import Protocol


class NotFinite(RapbenchError):
    """Relevance that is NaN or infinite. row: the first input, in its batch, that has such."""

    def __init__(self, row: int):
        super().__init__(f"NaN or infinite relevance for input {row} of the batch")
        self.row = row


def forward_of(network: nn.Module, precision: Precision) -> Forward:
    """Return images (N, C, *space) float32 -> logits (N, classes) float32, computed channels-last in `precision`.

    The network itself is not changed: bf16 works on a copy.
    """
    dtype = torch.float32
    if precision is Precision.bf16:
        dtype = torch.bfloat16
        network = copy.deepcopy(network).to(dtype)

    def forward(images: Tensor) -> Tensor:
        logits: Tensor = network(channels_last(images.to(dtype)))
        return logits.float()

    return forward


def table_of(batch: Batch, protocol: "Protocol", variants: dict[str, list[Step]]) -> dict[str, np.ndarray]:
    """Return a protocol's columns for a batch, step by step within an input, input by input within a variant.

    Columns: row (index in the batch), variant, k (as text), and the protocol's own. Raises RapbenchError where these
    are not those that its metrics promise, and NotFinite for a heatmap that has no ranking. All that is read from the
    device is read in one copy at the end, so that the host is far ahead of it until then.
    """
    metrics = {metric.name: metric for metric in protocol.metrics}
    names = list(metrics)
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
                if metrics[name].type != "float64" and values.is_floating_point():
                    raise RapbenchError(f"{type(protocol).__name__}.evaluate must return {name} as whole numbers or "
                                        f"truth values, as a {metrics[name].kind} is; got {values.dtype}")  # fmt: skip
            parts.append([found[name] for name in names])
            places["row"].append(np.repeat(np.arange(rows, dtype=np.int32), len(steps)))
            places["variant"].append(np.full(rows * len(steps), variant))
            places["k"].append(np.tile(np.array([str(step) for step in steps]), rows))
        doubles = [all(part[number].dtype == torch.float64 for part in parts) for number in range(len(names))]
        packed = torch.cat([torch.stack([values.double().flatten() for values in part]) for part in parts], 1)
        copied = torch.cat([batch.finite.to(packed), packed.flatten()]).cpu()  # the one copy back
    refuse_not_finite(copied[:rows].bool())
    values_of = copied[rows:].view(packed.shape).numpy()
    table = {name: np.concatenate(arrays) for name, arrays in places.items()}
    for name, values, double in zip(names, values_of, doubles, strict=True):
        table[name] = values.astype(_TYPES.get(metrics[name].type, np.float64 if double else np.float32))
    return table


def refuse_not_finite(finite: Tensor) -> None:
    """Raise NotFinite for the first input whose relevance is not finite; finite: (N,)."""
    for row, fine in enumerate(finite.tolist()):
        if not fine:
            raise NotFinite(row)


_TYPES: dict[str, type] = {"int64": np.int32, "bool": np.bool_}  # of a metric's type, where it is no fraction
