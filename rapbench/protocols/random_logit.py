"""Random logit: how alike a heatmap is to that of another class."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rapbench.core.random import random_keys
from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.similarity import check_window, spearman, ssim
from rapbench.protocols.base.single import Single


@protocols.register("random_logit")
@dataclass(frozen=True, kw_only=True)
class RandomLogit(Single):
    """Random logit test [sixt2020explanations]: the heatmap of the label against that of another class.

    The class is drawn among all others by the seed and the image. A method's own random numbers are those of the first
    heatmap.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("spearman", {"": "lower"}, title="rank correlation with another class's heatmap", axis=None, decimals=3),
        Metric("ssim", {"": "lower"}, title="SSIM with another class's heatmap", axis=None, decimals=3),
    )

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return spearman and ssim, (N,) float64, NaN where a heatmap is constant or zero."""
        others = batch.for_every_method(("another class", batch.seed), lambda: other_classes(batch))
        heatmaps = batch.attribute(labels=others)
        return {"spearman": spearman(batch.heatmaps, heatmaps), "ssim": ssim(batch.heatmaps, heatmaps)}

    def recomputed(self) -> int:
        """Return 1: the other class's."""
        return 1

    def check(self, space: Sequence[int]) -> None:
        """Raise RapbenchError for maps too small for SSIM."""
        check_window(space)


def other_classes(batch: Batch) -> Tensor:
    """Return (N,) classes, each drawn from all but the label's, equally likely."""
    classes = batch.clean().shape[1]
    keys = random_keys(batch.seeds("another class"), 1)[:, 0]
    return (batch.labels + 1 + keys.remainder(classes - 1)).remainder(classes)
