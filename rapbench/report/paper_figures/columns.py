"""The columns of a sheet: the image's, and one for each method under its name."""

from collections.abc import Iterable

from rapbench.report.paper_figures.sheet import DPI, GAP, LABELS, LINE, WIDTH, Sheet, fitted
from rapbench.results.display import NAMES, ordered

LARGEST = 1.0  # inches


class Columns:
    """side: how wide a picture is, in inches. top: where the first row may begin. x: each method's left edge."""

    def __init__(self, methods: Iterable[str]):
        methods = ordered("method", methods)
        room = (WIDTH - LABELS) / (1 + len(methods)) - GAP
        self.side = min(LARGEST, int(room * DPI) / DPI)
        self.x = {name: LABELS + place * (self.side + GAP) for place, name in enumerate(methods, start=1)}
        self.heads = {name: heading(name, self.side) for name in methods}
        self.top = LINE * max(head.count("\n") + 1 for head in self.heads.values()) + 2 * GAP

    def write(self, page: Sheet) -> None:
        """Write what each column shows above it."""
        for x, head in ((LABELS, "Image"), *((self.x[name], head) for name, head in self.heads.items())):
            page.words(x + self.side / 2, self.top - 2 * GAP, head, ha="center", va="baseline")


def heading(method: str, width: float) -> str:
    """Return a method's name as the tables have it, broken into lines of about `width` inches."""
    return fitted(NAMES.get(method, method).replace("*", "* "), width, 4, split=False).replace("* ", "*")
