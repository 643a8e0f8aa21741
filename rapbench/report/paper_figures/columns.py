"""The columns of a sheet: the image's, and one for each method under its name."""

from collections.abc import Iterable, Mapping

from rapbench.report.paper_figures.sheet import DPI, GAP, LABELS, LINE, WIDTH, Sheet, fitted
from rapbench.results.display import NAMES, ordered

LARGEST = 1.0  # inches


class Columns:
    """side: how wide a picture is, in inches. top: where the first row may begin. x: each column's left edge."""

    def __init__(self, heads: Mapping[str, str]):
        """heads: what stands above each column, in their order."""
        room = (WIDTH - LABELS) / (1 + len(heads)) - GAP
        self.side = min(LARGEST, int(room * DPI) / DPI)
        self.x = {name: LABELS + place * (self.side + GAP) for place, name in enumerate(heads, start=1)}
        self.heads = {name: heading(head, self.side) for name, head in heads.items()}
        self.top = LINE * max(head.count("\n") + 1 for head in self.heads.values()) + 2 * GAP

    @classmethod
    def of(cls, methods: Iterable[str]) -> "Columns":
        """Return a column for each method in the order of the tables, by its name there."""
        return cls({name: NAMES.get(name, name) for name in ordered("method", methods)})

    def write(self, page: Sheet) -> None:
        """Write what each column shows above it."""
        for x, head in ((LABELS, "Image"), *((self.x[name], head) for name, head in self.heads.items())):
            page.words(x + self.side / 2, self.top - 2 * GAP, head, ha="center", va="baseline")


def heading(name: str, width: float) -> str:
    """Return a name broken into lines of about `width` inches."""
    return fitted(name.replace("*", "* "), width, 4, split=False).replace("* ", "*")
