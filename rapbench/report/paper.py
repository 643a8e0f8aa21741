"""Our Table I beside the paper's, cell by cell."""

from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from rapbench.report.statistics import difference_interval, wilson
from rapbench.report.table1 import KEYS
from rapbench.report.table_text import markdown_name
from rapbench.results.display import DECIMALS, ordered

IMAGES = 500  # the paper's
COLUMNS = [*KEYS, "value", "n", "low", "high", "paper", "difference", "inside", "difference_low", "difference_high",
           "agrees", "note"]  # fmt: skip
LEGEND = (
    "inside: the paper's value is in our 95 % interval. agrees: 0 is in the interval of the difference, which also "
    "includes the sampling error of the paper's 500 images. Cells at K = 0 (clean images) are not counted."
)


def beside_paper(table: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Compare `table1`'s cells with those that the paper has too: COLUMNS.

    difference: ours - the paper's. inside: whether the paper's value lies in low..high: yes, no, misprint (as printed
    it cannot be right), or empty where ours has no interval. difference_low, difference_high: the interval of the
    difference with the paper's own sampling error: Wilson's for accuracy on 500 images; for scores, whose spread it
    does not tell, ours as it were on 500 images. agrees: whether 0 lies in it, as inside.
    """
    printed = published.rename(columns={"value": "paper"})
    both = table.merge(printed, on=KEYS)
    both["difference"] = both["value"] - both["paper"]
    found = [_interval(row) for row in both[["metric", "value", "low", "high", "n", "paper"]].itertuples(index=False)]
    both[["difference_low", "difference_high"]] = np.array(found, dtype=float).reshape(-1, 2)
    misprint, known = both["note"] != "", both["low"].notna()
    inside = (both["low"] <= both["paper"]) & (both["paper"] <= both["high"])
    agrees = (both["difference_low"] <= 0) & (both["difference_high"] >= 0)
    for name, answer in (("inside", inside), ("agrees", agrees)):
        both[name] = np.select([misprint, ~known, answer], ["misprint", "", "yes"], "no")
    return both[COLUMNS]


def totals(cells: pd.DataFrame) -> pd.DataFrame:
    """Count cells, inside, agrees and misprints over K > 0, for each sign and method, at last in all (both empty).

    cells: of `beside_paper`. Misprints and cells without an interval are not among the cells that are counted.
    """
    cells = cells[cells["k"] != "0"]
    groups = [(sign, method, part) for sign in ordered("sign", cells["sign"]) for method in ordered(
        "method", cells[cells["sign"] == sign]["method"])
        for part in [cells[(cells["sign"] == sign) & (cells["method"] == method)]]]  # fmt: skip
    rows = [
        {"sign": sign, "method": method, "cells": int(part["inside"].isin(["yes", "no"]).sum()),
         "inside": int((part["inside"] == "yes").sum()), "agrees": int((part["agrees"] == "yes").sum()),
         "misprints": int((part["inside"] == "misprint").sum())}
        for sign, method, part in [*groups, ("", "", cells)]
    ]  # fmt: skip
    return pd.DataFrame(rows)


def sentence(counted: pd.DataFrame) -> str:
    """Say `totals` in one sentence."""
    total = counted.iloc[-1]
    left = int(total["misprints"])
    out = f"; {left} misprinted cell{' is' if left == 1 else 's are'} not counted" if left else ""
    if not total["cells"]:
        return f"No cell above K = 0 has both an interval of ours and a value in the paper{out}."
    return (
        f"The paper's value is in our 95 % interval in {total['inside']} of {total['cells']} cells. With the sampling "
        f"error of its own {IMAGES} images included, it agrees in {total['agrees']}{out}. The paper's numbers were "
        "measured on VGG-16, on images that are not published."
    )


def markdown_paper(cells: pd.DataFrame) -> str:
    """Lay the totals out; empty where no cell is the paper's."""
    if cells.empty:
        return ""
    counted = totals(cells)
    rows = [[row.sign or "all", markdown_name(str(row.method)), *row[2:]] for row in counted.itertuples(index=False)]
    shown = tabulate(rows, ["", "", "cells", "inside", "agrees", "misprints"], "pipe")
    return "\n\n".join(["### Beside the paper", sentence(counted), shown, LEGEND])


def shown(value: float, metric: str) -> str:
    """Return a number with the metric's decimals; empty for one that is none."""
    return "" if np.isnan(value) else f"{value:z.{DECIMALS.get(metric, 2)}f}"


def _interval(row: tuple[Any, ...]) -> tuple[float, float]:
    metric, value, low, high, n, paper = row
    if np.isnan(low):
        return np.nan, np.nan
    if metric == "accuracy":
        theirs = wilson(round(paper * IMAGES / 100), IMAGES)
    else:
        narrower = np.sqrt(n / IMAGES)
        theirs = (paper - (value - low) * narrower, paper + (high - value) * narrower)
    return difference_interval((value, low, high), (paper, *theirs))
