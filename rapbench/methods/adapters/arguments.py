"""What `attribute` is given, as tensors; what has no plain meaning is said in one line."""

from typing import Any

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.tensors import as_tensor, what_is


def as_inputs(given: Any) -> Tensor:
    """Return a batch of images, (N, ...), float32 or float64, detached; from a tensor, an array, or a list of them.

    float16 and bfloat16 become float32. Raises RapbenchError for what is no batch of preprocessed images.
    """
    tensor = as_tensor(given)
    if tensor is None or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise RapbenchError(
            f"inputs must be a tensor or an array of preprocessed images, (N, ...), got {what_is(given)}"
        )
    if not tensor.is_floating_point() or tensor.dim() < 2 or not tensor.numel():
        raise RapbenchError(f"inputs must be a non-empty floating-point batch (N, ...), got {what_is(tensor)}")
    tensor = tensor.clone() if tensor.is_inference() else tensor.detach()
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def refuse_not_finite(inputs: Tensor) -> None:
    """Raise RapbenchError for NaN and infinite values; inputs: (N, ...), of the type that they are computed in."""
    broken = (~inputs.isfinite()).flatten(1).any(1)
    if broken.any():
        first = int(broken.nonzero()[0])
        raise RapbenchError(f"inputs hold NaN or infinite values, first in image {first} of the batch")


def as_targets(given: Any, inputs: Tensor) -> Tensor:
    """Return (N,) whole numbers on the inputs' device, from one for all or one an image.

    Raises RapbenchError for anything else; True and 2.0 are none. `refuse_values` sees to their range.
    """
    count = len(inputs)
    if given is None:
        raise RapbenchError(
            "targets is None: say which class to explain; model(inputs).argmax(1) for the predicted one"
        )
    tensor = as_tensor(given, whole=True)
    if tensor is None:
        raise RapbenchError(f"targets must be {count} class indices, or one for all, got {what_is(given)}")
    targets = tensor.detach().expand(count) if tensor.dim() == 0 else tensor.detach()
    whole = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    if targets.shape != (count,) or not whole or targets.is_quantized:
        raise RapbenchError(f"targets must be {count} class indices, or one for all, got {what_is(tensor)}")
    return targets.clone().to(inputs.device, torch.int64)


def refuse_values(inputs: Tensor, targets: Tensor, classes: int | None) -> None:
    """Raise RapbenchError for inputs that are not finite and for targets that are no classes; None: any from 0.

    inputs: (N, ...). targets: (N,). All is read from the device at once.
    """
    finite, least, most = torch.stack([inputs.isfinite().all().to(torch.int64), *targets.aminmax()]).tolist()
    if not finite:
        refuse_not_finite(inputs)
    if least < 0:
        raise RapbenchError(f"target {least} is out of range: class indices start at 0")
    if classes is not None and most >= classes:
        raise RapbenchError(f"target {most} is out of range: the model has {classes} classes")
