"""Complexity: over how many pixels the relevance is spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.batch import Batch
from rapbench.protocols.base.magnitudes import magnitudes, total
from rapbench.protocols.base.metric import Metric
from rapbench.protocols.base.single import Single


@protocols.register("complexity")
@dataclass(frozen=True, kw_only=True)
class Complexity(Single):
    """Complexity [bhatt2020evaluating]: the entropy of the absolute values' shares, in nats.

    0 if one pixel has all relevance, ln n if all n pixels have the same. Not defined (NaN) for a heatmap of zeros.
    """

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("complexity", {"": "lower"}, title="entropy", unit="nats", axis=None, decimals=3),
    )

    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the entropy, (N,) float64."""
        ordered = magnitudes(batch)
        return {"complexity": total(torch.special.entr(ordered / total(ordered)[:, None]))}
