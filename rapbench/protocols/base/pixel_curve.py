"""Curves of the label's output over the share of pixels, with the area under each."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from pydantic import PositiveInt

from rapbench.protocols.base.batch import OUTPUTS, Output, Step
from rapbench.protocols.base.metric import Better, Metric
from rapbench.protocols.base.pixel_steps import shares
from rapbench.protocols.base.protocol import Protocol


@dataclass(frozen=True, kw_only=True)
class PixelCurve(Protocol):
    """The label's output over the share of pixels that are replaced or inserted.

    Attributes
    ----------
    better : {"higher", "lower"}
        Which output and area are the better ones.
    """

    better: ClassVar[Better]

    steps: PositiveInt = 100
    output: Output = "probability"

    @property
    def metrics(self) -> Sequence[Metric]:  # type: ignore[override]
        """The label's output."""
        return (Metric(self.output, {"": self.better}, title=OUTPUTS[self.output], axis="share", decimals=3),)

    @property
    def summaries(self) -> Sequence[Metric]:  # type: ignore[override]
        """The area under the curve."""
        return (Metric("auc", {"": self.better}, title="area under the curve", axis=None, decimals=3),)

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the shares of pixels, whatever the signs: pixels are ranked by signed relevance."""
        return {"": shares(self.steps)}

    def summary(self, curves: Mapping[str, np.ndarray], steps: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the area under each curve by the trapezoidal rule, (N,)."""
        return {"auc": np.trapezoid(curves[self.output], np.array(steps, dtype=float), axis=1)}
