"""The images of a batch on their way through a network: each for itself, some at a time."""

import math
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

CACHED = 12 * 2**20  # bytes of one tensor: what a step touches then stays in a CPU's cache, and its rules run faster


@dataclass
class Pass:
    """A forward pass: the activations that the way back needs, every tensor's shape, and (N, classes) logits.

    constants: of every node, what its rule computes from weights alone, where some images go down after others.
    """

    values: dict[fx.Node, Any]
    shapes: dict[fx.Node, torch.Size]
    logits: Tensor
    constants: dict[fx.Node, dict[str, Any]] | None = None


def block(x: Tensor) -> int:
    """How many images of a batch like x go down together."""
    if x.device.type != "cpu":
        return len(x)
    blocks = math.ceil(len(x) / max(1, CACHED // max(1, x[0].numel() * x.element_size())))
    return math.ceil(len(x) / blocks)


def split(
    run: Pass, relevance: dict[fx.Node, dict[str, Tensor]], size: int, varying: Container[fx.Node]
) -> Iterator[tuple[Pass, dict[fx.Node, dict[str, Tensor]]]]:
    """Yield what belongs to every `size` images: views, one after another.

    varying: the nodes whose first dimension is the images'; the values of the others go with all of them.
    """
    constants = {} if run.constants is None else run.constants
    batch = len(run.logits)
    for start in range(0, batch, size):
        images = slice(start, start + size)
        values = {
            node: value[images] if isinstance(value, Tensor) and node in varying else value
            for node, value in run.values.items()
        }
        some = {node: {flow: part[images] for flow, part in flows.items()} for node, flows in relevance.items()}
        count = min(size, batch - start)
        shapes = {
            node: torch.Size((count, *shape[1:])) if node in varying else shape for node, shape in run.shapes.items()
        }
        yield Pass(values, shapes, run.logits[images], constants), some


def keeps_images(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether a function that moves elements leaves each in its own image; of x, (N, ...), only the shape counts."""
    numbers = torch.arange(len(x), device=x.device)
    moved = function(numbers.view(-1, *[1] * (x.dim() - 1)).expand(x.shape))
    if moved.dim() == 0 or len(moved) != len(x):
        return False
    return bool((moved == numbers.view(-1, *[1] * (moved.dim() - 1))).all())
