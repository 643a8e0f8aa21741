"""The device that a user names."""

import torch

from rapbench.errors import RapbenchError


def device_called(name: str) -> torch.device:
    """Return the device: auto (a GPU when there is one), cpu, cuda, cuda:1. RapbenchError when it is not to be had."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RapbenchError(f"device {name!r} cannot be used here ({reason}); try cpu") from error
    return device


def default_batch(device: torch.device) -> int:
    """Images in one pass: 8 on a CPU, whose caches they fit, 64 elsewhere."""
    return 8 if device.type == "cpu" else 64
