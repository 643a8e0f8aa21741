"""Relevance mass: the share of positive relevance that lies inside the mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from rapbench.protocols import protocols
from rapbench.protocols.base.localisation import Inside, Localisation
from rapbench.protocols.base.metric import Metric


@protocols.register("relevance_mass")
@dataclass(frozen=True, kw_only=True)
class RelevanceMass(Localisation):
    """Relevance mass accuracy [arras2022clevr]: positive relevance inside the mask over all positive relevance."""

    metrics: ClassVar[Sequence[Metric]] = (
        Metric("relevance_mass", {"": "higher"}, title="share of positive relevance inside", axis=None, decimals=3),
    )

    def located(self, inside: Inside) -> Tensor:
        """Return the share, (N,) float64."""
        within, whole = (inside.relevance * inside.mask).cumsum(1), inside.relevance.cumsum(1)
        return within[:, -1] / whole[:, -1]  # a running sum does not depend on the batch, to the last bit
