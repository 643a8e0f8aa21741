"""What reports call methods and metrics, and the order in which these stand."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rapbench.protocols.base.ks import MOST, is_share, number_of
from rapbench.registry.declared import declared_titles
from rapbench.results.published import published_table1

# The paper's order. Other names follow in order of appearance, `random` after all.
FIRST = {
    "sign": ["positive", "negative"],
    "method": [
        "sensitivity",
        "gradient_x_input",
        "integrated_gradients",
        "pattern_attribution",
        "lrp_a1b0",
        "lrp_a2b1",
        "lrp_preset_a",
        "lrp_preset_b",
        "rap",
    ],
    "metric": ["accuracy", "score"],
}


class _Names(dict[str, str]):
    """What the tables call a method: as the run's own methods say, within `titled`; else as rapbench's say."""

    def get(self, label: str, otherwise: Any = None) -> Any:
        return _titles.get().get(label) or super().get(label, otherwise)


_titles: ContextVar[Mapping[str, str]] = ContextVar("titles", default={})  # noqa: B039  never written to


@contextmanager
def titled(titles: Mapping[str, str]) -> Iterator[None]:
    """Within: methods are called by these titles, by label."""
    token = _titles.set(titles)
    try:
        yield
    finally:
        _titles.reset(token)


_pixels: ContextVar[int] = ContextVar("pixels", default=0)


@contextmanager
def sized(pixels: int) -> Iterator[None]:
    """Within: K that are shares are of inputs with this number of pixels, 0 where that is not known."""
    token = _pixels.set(pixels)
    try:
        yield
    finally:
        _pixels.reset(token)


def k_number(k: str) -> float:
    """Return the place of a K, or of another step, in its order and on an axis: `all` is last, no step first.

    A share stands at the number of pixels that it is; where that is not known, behind all counts.
    """
    if k == "all":
        return math.inf
    return number_of(k, _pixels.get() or MOST) if is_share(k) else float(k or -1)


def pixels_of(k: str) -> int | None:
    """Return how many pixels a K is, but `all`; None where that is not known."""
    return number_of(k, _pixels.get()) if _pixels.get() or not is_share(k) else None


NAMES = _Names(declared_titles())
METRIC_NAMES = {
    "accuracy": "accuracy (%)",
    "score": "mean target logit",
    "distance": "mean distance (pixels)",
    "squared_distance": "mean squared distance (pixels²)",
}
PAPER = "paper (VGG-16)"
MISSING = "–"  # noqa: RUF001
DECIMALS = {"accuracy": 1, "score": 2}


def ordered(column: str, values: Iterable[str]) -> list[str]:
    """Return the distinct values of a column in the paper's order; K by number, 'all' last."""
    seen = dict.fromkeys(values)
    if column == "k":
        return sorted(seen, key=k_number)
    first = list(published_table1()["perturbation"].unique()) if column == "perturbation" else FIRST.get(column, [])
    return sorted(seen, key=lambda name: first.index(name) if name in first else len(first) + (name == "random"))
