"""A uniformly random ranking: the control that uses neither model nor image."""

from torch import Tensor, nn

from rapbench.core.random import random_uniform
from rapbench.methods import methods


@methods.register(
    "random", title="Random", signs=("positive", "negative"), passes=0.1, random=True, looks_at_model=False
)
def random(model: nn.Module, inputs: Tensor, targets: Tensor, *, seeds: Tensor | None = None) -> Tensor:
    """Return uniform draws in (-1, 1), one a pixel, the same in every channel; seeds: (N,), one an image."""
    assert seeds is not None
    pixels = inputs[0, 0].numel()
    draws = random_uniform(seeds, pixels).to(inputs.dtype)
    return draws.view(len(inputs), 1, *inputs.shape[2:]).expand_as(inputs).contiguous()
