"""Per-image distances to the means of D_K, and their layout for a terminal."""

import math

import numpy as np
import pandas as pd

from rapbench.report.per_image import bootstrap_intervals, refuse_twice
from rapbench.report.table1 import in_table_order
from rapbench.report.table_text import Notes, image_counts, in_columns
from rapbench.results.display import METRIC_NAMES, MISSING, NAMES, ordered


def distance_table(distances: pd.DataFrame, metric: str = "distance") -> pd.DataFrame:
    """Average per-image distances D_K: sign, method, metric, k, mean, std, n, low, high, as Table I's order.

    metric: `distance`, or `squared_distance` as equation 12 is printed. Images without a pixel of the sign (distance
    NaN) do not count; std is the sample's (n - 1). low, high: the 95 % interval of the mean, by the bootstrap over
    images. Raises RapbenchError where an image is there twice.
    """
    refuse_twice(distances, ["sign", "method", "k"])
    cell = ["sign", "method", "k"]
    means = distances.groupby(cell, sort=False)["distance"].agg(["mean", "std", "count"])
    table = means.rename(columns={"count": "n"}).reset_index()
    ends = bootstrap_intervals(distances, cell, "distance")
    nothing = (np.nan, np.nan)
    table[["low", "high"]] = [ends.get(key, nothing) for key in table[cell].itertuples(index=False, name=None)]
    table.insert(2, "metric", metric)
    return in_table_order(table)


def distance_terminal(table: pd.DataFrame, notes: Notes | None = None) -> str:
    """Lay out `distance_table`'s result for a terminal: mean ± standard error, one block a sign."""
    parts = []
    for sign in ordered("sign", table["sign"]):
        part = table[table["sign"] == sign]
        ks = ordered("k", part["k"])
        cells = {
            (method, k): (f"{mean:.2f}" if n else MISSING) + (f" ± {std / math.sqrt(n):.2f}" if n > 1 else "")
            for method, k, mean, std, n in part[["method", "k", "mean", "std", "n"]].itertuples(index=False)
        }
        methods = ordered("method", part["method"])
        rows = [[NAMES.get(method, method), *(cells.get((method, k), "") for k in ks)] for method in methods]
        title = f"{sign.capitalize()} attributions: D_K, {METRIC_NAMES[part['metric'].iloc[0]]}"
        caption = f"Cells: mean ± standard error; {image_counts(part['n'])}."
        parts.append("\n".join([title, caption, in_columns(rows, ks, "simple"), *(notes or {}).get(sign, [])]))
    return "\n\n".join(parts) + "\n"
