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

    rounding_error: (N,) sums, added to on the way back, see `cancellation`.
    constants: of every node, what its rule computes from weights alone, where some images go down after others.
    """

    values: dict[fx.Node, Any]
    shapes: dict[fx.Node, torch.Size]
    logits: Tensor
    rounding_error: Tensor
    constants: dict[fx.Node, dict[str, Any]] | None = None


def block(x: Tensor, batch: int) -> int:
    """How many of a batch's images go down together, where what belongs to all of them is like x."""
    if x.device.type != "cpu":
        return batch
    blocks = math.ceil(batch / max(1, CACHED // max(1, x.numel() // batch * x.element_size())))
    return math.ceil(batch / blocks)


def split(
    run: Pass, relevance: dict[fx.Node, dict[str, Tensor]], size: int, varying: Container[fx.Node]
) -> Iterator[tuple[Pass, dict[fx.Node, dict[str, Tensor]]]]:
    """Yield what belongs to every `size` images: views, one after another.

    varying: the nodes whose first dimension is the images', or each image's rows one image after the other, as windows
    of attention are; the values of the others go with all of them.
    """
    constants = {} if run.constants is None else run.constants
    batch = len(run.logits)

    def of(images: slice, rows: int) -> slice:
        return slice(images.start * rows // batch, images.stop * rows // batch)

    for start in range(0, batch, size):
        images = slice(start, min(start + size, batch))
        values = {
            node: value[of(images, len(value))] if isinstance(value, Tensor) and node in varying else value
            for node, value in run.values.items()
        }
        some = {
            node: {flow: part[of(images, len(part))] for flow, part in flows.items()}
            for node, flows in relevance.items()
        }
        count = images.stop - images.start
        shapes = {
            node: torch.Size((shape[0] * count // batch, *shape[1:])) if node in varying else shape
            for node, shape in run.shapes.items()
        }
        yield Pass(values, shapes, run.logits[images], run.rounding_error[images], constants), some


def keeps_images(function: Callable[[Tensor], Tensor], x: Tensor, batch: int) -> bool:
    """Whether a function that moves elements leaves each in its own image; of x, (rows, ...), only the shape counts."""
    numbers = torch.arange(batch, device=x.device)
    moved = function(to_rows(numbers, x).expand(x.shape))
    if moved.dim() == 0 or len(moved) % batch:
        return False
    return bool((moved == to_rows(numbers, moved)).all())


def per_image(x: Tensor, batch: int) -> Tensor:
    """Return (batch,) sums over all that each image has; x: (rows, ...), in any memory layout."""
    rows = x.sum(tuple(range(1, x.dim())))
    return rows if len(rows) == batch else rows.view(batch, -1).sum(1)


def to_rows(values: Tensor, like: Tensor) -> Tensor:
    """View each image's value, (batch,), so that it broadcasts against like, (rows, ...)."""
    return values.repeat_interleave(len(like) // len(values)).view(-1, *[1] * (like.dim() - 1))
