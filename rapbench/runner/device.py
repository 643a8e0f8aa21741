"""The device that a user names."""

import warnings

import torch

from rapbench.errors import RapbenchError


def device_called(name: str) -> torch.device:
    """Return the device: auto (a GPU when there is one), cpu, cuda, cuda:1. RapbenchError when it is not to be had."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of types that are no devices any more: the refusal says more
            device = torch.device(name)
        if device.type == "cpu":
            device = torch.device("cpu")  # cpu:1 is no other
        elif device != torch.zeros(1, device=device).device and device.index is not None:
            raise RuntimeError("there is no such device")
        _compute(device)
    except (RuntimeError, AssertionError, ValueError, ImportError, TypeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].partition(". ")[0]
        raise RapbenchError(f"device {name!r} cannot be used here ({reason:.200}); try cpu") from error
    return device


def _compute(device: torch.device) -> None:
    """Raise RuntimeError unless what a run does, a convolution and its gradient, comes back from the device right."""
    x = torch.arange(16.0).view(1, 1, 4, 4).to(device).requires_grad_()
    y = torch.nn.functional.conv2d(x, torch.ones(1, 1, 3, 3, device=device))
    y.sum().backward()
    if y.flatten().tolist() != [45.0, 54.0, 81.0, 90.0] or x.grad is None or x.grad.sum().item() != 36:
        raise RuntimeError("it computes wrong numbers")


def default_batch(device: torch.device) -> int:
    """Images in one pass: 8 on a CPU, whose caches they fit, 64 elsewhere."""
    return 8 if device.type == "cpu" else 64
