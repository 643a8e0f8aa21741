"""Pixels replaced in equal steps until none is left."""

from collections.abc import Hashable
from typing import Literal

import torch
from torch import Tensor

from rapbench.protocols.base.batch import Answers, Batch, Step
from rapbench.protocols.base.whole_fills import WholeFill, filled

Order = Literal["most", "least"]  # relevant first


def shares(steps: int) -> list[Step]:
    """Return the shares of all pixels after 0 to `steps` steps."""
    return [step / steps for step in range(steps + 1)]


def area(curve: Tensor) -> Tensor:
    """Return the area under curves over the shares 0 to 1 by the trapezoidal rule, (N, steps + 1) -> (N,) float64."""
    return torch.trapezoid(curve.double(), dim=1) / (curve.shape[1] - 1)


def replacing(batch: Batch, order: Order, steps: int, fill: WholeFill) -> Answers:
    """Ask the model after 0 to `steps` steps, in each of which as many pixels are replaced; once for equal arguments.

    After s steps round(n s / steps) of n pixels are replaced. Equal relevance is ranked by position.

    Parameters
    ----------
    batch : Batch
    order : {"most", "least"}
        Which pixels are replaced first, by relevance summed over channels, whatever its sign.
    steps : int
    fill : str
        What pixels become, see `replaced`.
    """

    def asked() -> Answers:
        instead = filled(batch, fill)

        def changed(rows: Tensor, columns: Tensor) -> Tensor:
            return torch.where(_first(batch, order, steps, rows, columns), instead[rows], batch.inputs[rows])

        return batch.ask(changed, shares(steps))

    return batch.once(("replacing", order, steps, fill), asked)


def inserting(batch: Batch, steps: int, canvas: Hashable, blurred: Tensor) -> Answers:
    """Ask the model after 0 to `steps` steps, in which the most relevant pixels come into other images.

    canvas: what identifies these. blurred: (N, C, *space).
    """

    def asked() -> Answers:
        def changed(rows: Tensor, columns: Tensor) -> Tensor:
            return torch.where(_first(batch, "most", steps, rows, columns), batch.inputs[rows], blurred[rows])

        return batch.ask(changed, shares(steps), zero="asked")

    return batch.once(("inserting", steps, canvas), asked)


def _first(batch: Batch, order: Order, steps: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return whether each pixel is among the first ones after a step; (P, 1, *space)."""
    pixels, device = batch.heatmaps[0].numel(), batch.inputs.device
    ranks = batch.ranks("positive" if order == "most" else "negative").view(-1, 1, *batch.heatmaps.shape[1:])
    counts = batch.for_every_method(
        ("pixels after", steps),
        lambda: torch.tensor([round(pixels * step / steps) for step in range(steps + 1)], device=device),
    )
    return ranks[rows] < counts[columns].view(-1, *[1] * (batch.inputs.dim() - 1))
