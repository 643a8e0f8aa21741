"""Libraries that draw from the global generators: one image after the other, each seeded by its own seed."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def seeded(
    explain: Callable[[Tensor, Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor, seeds: Tensor
) -> Tensor:
    """Return what `explain` gives for each image alone; the generators of torch and NumPy come back as they were.

    Parameters
    ----------
    explain : callable
        (input (1, C, ...), target (1,), seed (1,)) -> relevance, (1, C, ...).
    inputs, targets, seeds : Tensor, (N, C, ...), (N,), (N,)
        Of a batch.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance.
    """
    state = np.random.get_state()  # noqa: NPY002  # Captum draws from it
    devices = [inputs.device] if inputs.device.type == "cuda" else []
    found = []
    try:
        with torch.random.fork_rng(devices):
            for image, target, seed in zip(inputs.split(1), targets.split(1), seeds.split(1), strict=True):
                torch.manual_seed(int(seed))
                np.random.seed(int(seed) % 2**32)  # noqa: NPY002
                found.append(explain(image, target, seed).detach())
    finally:
        np.random.set_state(state)  # noqa: NPY002
    return torch.cat(found)
