"""The device that a user names, and how much it is given at a time."""

import warnings

import torch

from rapbench.core.errors import RapbenchError

GIB = 2**30
CHUNK = 8  # images attributed together on a CPU
BATCH = 8  # images in one pass there, whose caches they fit
FULL = 64  # images at which a GPU is taken to be busy


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


def default_chunk(device: torch.device) -> int:
    """Return how many images are attributed together: 8 on a CPU; on a CUDA device two for each GiB, 8 to 64.

    The number is a part of a result's key. So it follows from the card alone, by its `memory_class`, and not from what
    is free on it: where that does not suffice, chunks are halved.
    """
    return CHUNK if device.type != "cuda" else min(max(2 * memory_class(device), CHUNK), FULL)


def default_batch(device: torch.device) -> int:
    """Return how many images are in one forward pass: 8 on a CPU; four chunks on a CUDA device, but 64 or more."""
    if device.type == "cpu":
        return BATCH
    return FULL if device.type != "cuda" else max(4 * default_chunk(device), FULL)


def memory_class(device: torch.device) -> int:
    """Return the largest power of two GiB, at least 1, that a CUDA device's memory holds.

    The driver keeps some of what a card is sold with, more or less of it; the class is the same: 16 for one of 24 GB,
    64 for one of 80.
    """
    whole = torch.cuda.get_device_properties(device).total_memory // GIB
    return 1 << max(whole.bit_length() - 1, 0)
