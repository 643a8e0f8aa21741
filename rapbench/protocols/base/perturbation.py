"""Protocols over K ranked pixels, of one sign at a time; and those among them that change the pixels and ask again."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.fills import Normalisation
from rapbench.protocols.base.ks import Ks, check_ks, number_of
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.protocol import Protocol

# Of the paper's Table I.
PAPER: Ks = {
    "positive": (0, 250, 500, 1000, 2000, 4000, "all"),
    "negative": (0, 2000, 4000, 6000, 8000, 10000, "all"),
}
# Without the positive pixels lower is better, without the negative ones higher.
SIGNED: dict[str, Literal["higher", "lower"]] = {"positive": "lower", "negative": "higher"}


@dataclass(frozen=True, kw_only=True)
class Ranked(Protocol):
    """A protocol over numbers of pixels, most relevant or most negative first."""

    k: Ks = field(default_factory=lambda: PAPER)

    def __post_init__(self) -> None:
        check_ks(self.k)

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the K of each sign that the method has."""
        return {sign: list(ks) for sign, ks in self.k.items() if sign in signs}


class Perturbation(Ranked):
    """Changes the first K pixels of the ranking and asks the model again. K = 0 is the clean image."""

    table: ClassVar[str] = "Table I"
    metrics: ClassVar[Sequence[Metric]] = (
        Metric("selected", title="pixels perturbed", kind="count", decimals=0, detail=True),
        Metric("predicted", title="predicted class", kind="count", decimals=0, detail=True),
        Metric("accuracy", SIGNED, unit="%", kind="share", decimals=1),
        Metric("logit", SIGNED, title="mean target logit"),
    )

    @abstractmethod
    def perturbed(
        self, images: Tensor, order: Tensor, counts: Tensor, seeds: Tensor, normalisation: Normalisation | None
    ) -> Tensor:
        """Return the images with the first pixels of each changed.

        Parameters
        ----------
        images : Tensor, (P, C, *space)
            Preprocessed.
        order : Tensor, (P, n)
            Positions by rank; n is at least the largest count.
        counts : Tensor, (P,)
            Number of pixels to change in each image.
        seeds : Tensor, (P,)
            One per image.
        normalisation : (mean, std), optional
            Of the channels, for pixel values in 0..1.

        Returns
        -------
        Tensor, (P, C, *space)
        """

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return selected, predicted, accuracy (0 or 1) and logit, (N, number of K) each."""
        ranking = batch.ranking(variant)  # type: ignore[arg-type]
        selected = torch.stack([ranking.selected(k) for k in steps], 1)  # type: ignore[arg-type]
        seeds = batch.seeds()

        def changed(rows: Tensor, columns: Tensor, most: int) -> Tensor:
            order = ranking.order[:, :most][rows]
            return self.perturbed(batch.inputs[rows], order, selected[rows, columns], seeds[rows], batch.normalisation)

        pixels = ranking.order.shape[1]
        bounds = [min(number_of(k, pixels), pixels) for k in steps]  # type: ignore[arg-type]
        answers = batch.ask(changed, steps, bounds=bounds)
        return {
            "selected": selected,
            "predicted": answers.predicted,
            "accuracy": answers.correct,
            "logit": answers.logit,
        }
