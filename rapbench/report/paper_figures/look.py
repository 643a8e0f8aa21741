"""How heatmaps are drawn: what may be chosen, without what draws."""

from dataclasses import dataclass

from rapbench.core.errors import RapbenchError
from rapbench.results.gallery import QUANTILE

COLOURS = ("seismic", "PuOr_r", "RdBu_r")  # white at zero; the latter two for colour-blind readers as well


@dataclass(frozen=True)
class Look:
    """colours: one of COLOURS. percentile: of a map's absolute values, has the full colour. overlay: on the picture."""

    colours: str = COLOURS[0]
    percentile: float = 100 * QUANTILE
    overlay: bool = False

    def __post_init__(self) -> None:
        if self.colours not in COLOURS:
            raise RapbenchError(f"unknown colours {self.colours!r}; known: {', '.join(COLOURS)}")
        if not 0 < self.percentile <= 100:
            raise RapbenchError(f"percentile must be above 0 and at most 100, got {self.percentile:g}")
