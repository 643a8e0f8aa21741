"""What a run is asked for beside its model, data, methods and protocols, whatever asked for it."""

from dataclasses import dataclass
from typing import Any

from rapbench.precision import Precision


@dataclass(frozen=True)
class Spec:
    """seed: of all draws. heatmaps: the number format in which they are kept, None for not at all. gallery: images."""

    seed: int = 0
    precision: Precision = Precision.fp32
    heatmaps: str | None = None
    gallery: int = 0

    @classmethod
    def of(cls, config: Any) -> "Spec":
        """Return what a configuration asks for."""
        return cls(config.seed, config.precision, config.heatmaps and config.heatmaps.name, config.gallery)
