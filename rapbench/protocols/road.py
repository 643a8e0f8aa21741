"""ROAD, remove and debias: pixels are removed in shares and imputed from those that are left, then asked about.

Rong, Leemann, Borisov, Kasneci, Kasneci: A Consistent and Efficient Evaluation Strategy for Attribution Methods, ICML
2022. A pixel that becomes one fixed value tells the model where pixels were removed, by the shape of the hole. Imputed
from its neighbours, with a little noise, it tells far less.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.core.random import random_normal
from rapbench.core.signs import Sign
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import OUTPUTS, Batch, Output, Step
from rapbench.protocols.base.imputation import linearly_imputed
from rapbench.protocols.base.ks import check_shares, number_of
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.protocol import Protocol
from rapbench.protocols.regions import BETTER

ORDERS: dict[str, Sign] = {"morf": "positive", "lerf": "negative"}  # which ranking of all pixels each one is


@protocols.register("road")
@dataclass(frozen=True, kw_only=True)
class Road(Protocol):
    """ROAD [rong2022consistent]: noisy linear imputation of a share of the pixels, most or least relevant first.

    Parameters
    ----------
    shares : list of str
        Of all pixels, such as "10%": how many are removed. They ascend, below 100%.
    noise : float
        Standard deviation of the Gaussian noise that is added to imputed pixels, in the network's input space.
    output : {"logit", "probability"}
        f, the network's output for the label.
    """

    table: ClassVar[str] = "ROAD"
    step_name: ClassVar[str] = "share of pixels removed"

    shares: list[str] = field(default_factory=lambda: [f"{share}%" for share in range(10, 100, 10)])
    noise: NonNegativeFloat = 0.01
    output: Output = "probability"

    def __post_init__(self) -> None:
        check_shares("shares", self.shares)

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """f, and what is predicted."""
        return (
            Metric("predicted", title="predicted class", kind="count", axis="share", decimals=0, detail=True),
            Metric("accuracy", BETTER, unit="%", kind="share", axis="share", decimals=1),
            Metric(self.output, BETTER, title=OUTPUTS[self.output], axis="share", decimals=3),
        )

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the shares in each order, whatever the signs: both orders rank all pixels, by the signed sum."""
        return {order: list(self.shares) for order in ORDERS}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return predicted, accuracy (0 or 1) and f, (N, number of shares) each."""
        pixels, device = batch.heatmaps[0].numel(), batch.inputs.device
        ranks = batch.ranks(ORDERS[variant])
        counts = batch.for_every_method(
            ("road counts", pixels, *steps),
            lambda: torch.tensor([number_of(str(step), pixels) for step in steps], device=device),
        )
        noise = batch.for_every_method(("road noise", self.noise, batch.seed), lambda: self.drawn(batch))

        def changed(rows: Tensor, columns: Tensor) -> Tensor:
            removed = (ranks[rows] < counts[columns][:, None]).view(len(rows), *batch.heatmaps.shape[1:])
            imputed = linearly_imputed(batch.inputs[rows], removed)
            return torch.where(removed[:, None], imputed + noise[rows], imputed)

        answers = batch.ask(changed, steps)
        return {"predicted": answers.predicted, "accuracy": answers.correct, self.output: answers.of(self.output)}

    def drawn(self, batch: Batch) -> Tensor:
        """Return what is added to each input where it is imputed: one draw for all orders, shares and methods."""
        normal = random_normal(batch.seeds("road"), batch.inputs[0].numel())
        return (normal * self.noise).view(batch.inputs.shape).to(batch.inputs.dtype)

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError where a share is no pixel or all of them, or is as many as the one before."""
        pixels = math.prod(space)
        numbers = [number_of(share, pixels) for share in self.shares]
        for share, number, before in zip(self.shares, numbers, [0, *numbers], strict=False):
            what = "no pixel" if number == 0 else "every pixel" if number == pixels else ""
            what = what or ("as many as the share before" if number == before else "")
            if what:
                raise RapbenchError(
                    f"shares has {share}, which is {what}: an input has {pixels:,} pixels; "
                    f"take {'fewer' if number == pixels else 'fewer or larger'} shares"
                )
