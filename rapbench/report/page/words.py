"""Numbers and choices as the page words them."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from rapbench.results.display import METRIC_NAMES, NAMES

MINUS = str.maketrans({"-": "−"})  # noqa: RUF001


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table's rows."""
    return [{str(key): value for key, value in row.items()} for row in frame.to_dict("records")]


def options(values: Sequence[str], chosen: str | None = None) -> list[dict[str, Any]]:
    """Return what a choice offers: value, label, and whether it is chosen at first."""
    return [
        {"value": value, "label": METRIC_NAMES.get(value) or NAMES.get(value, value), "chosen": value == chosen}
        for value in values
    ]


def number(value: float, decimals: int) -> str:
    """Return a number with a real minus; empty for one that is none."""
    return "" if math.isnan(value) else f"{value:z.{decimals}f}".translate(MINUS)


def signed(value: float, decimals: int) -> str:
    """Return a number with its sign, also a plus; what rounds to zero has none."""
    text = number(value, decimals)
    return f"+{text}" if value > 0 and float(text) else text


def interval(low: float, high: float, decimals: int) -> str:
    """Return an interval in brackets; empty where there is none."""
    return "" if math.isnan(low) else f"[{number(low, decimals)}, {number(high, decimals)}]"


def p_value(value: float) -> str:
    """Return p as papers print it."""
    return "" if math.isnan(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def sortable(value: float) -> str:
    """Return a number for the page's script to sort by."""
    return "" if math.isnan(value) else f"{value:.6f}"


def middle(ks: list[str]) -> str:
    """Return the K that is shown first: the second largest number of pixels, or what there is."""
    numbers = [k for k in ks if k not in ("0", "all")]
    return numbers[-2] if len(numbers) > 1 else (numbers or ks)[-1]
