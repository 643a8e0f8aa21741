"""Per-image results to the numbers of the paper's Table I; `table1_text` lays them out."""

import numpy as np
import pandas as pd

from rapbench.report.per_image import bootstrap_intervals, refuse_twice
from rapbench.report.statistics import wilson
from rapbench.results.display import ordered

KEYS = ["sign", "method", "metric", "perturbation", "k"]
CELL = ["sign", "method", "perturbation", "k"]


def table1(images: pd.DataFrame) -> pd.DataFrame:
    """Average per-image results into Table I: sign, method, metric, perturbation, k, value, n, low, high, in its order.

    images: a row for each image, method, sign, perturbation and k, with `correct` and `logit`. Accuracy is in per cent,
    score the mean logit of the label; a logit that is not a number makes its mean one too. n: images. low, high: the
    95 % interval, Wilson's for accuracy, the bootstrap over images for scores (NaN where one image is all). Raises
    RapbenchError where an image is in a cell twice.
    """
    refuse_twice(images, CELL)
    values = images.assign(accuracy=100.0 * images["correct"], score=images["logit"].astype(float)).melt(
        id_vars=["sign", "method", "perturbation", "k"], value_vars=["accuracy", "score"], var_name="metric"
    )
    # Sorted before they are summed, so that the order of the images cannot change the last digit.
    means = values.groupby(KEYS, sort=False)["value"].agg(value=lambda group: np.sort(group).mean(), n="size")
    cells = images.groupby(CELL, sort=False)["correct"].agg(["sum", "size"])
    ends = {(*cell, "accuracy"): wilson(*counts) for cell, counts in zip(cells.index, cells.to_numpy(), strict=True)}
    ends |= {(*cell, "score"): found for cell, found in bootstrap_intervals(images, CELL, "logit").items()}
    table = means.reset_index()
    found = [ends[key] for key in table[[*CELL, "metric"]].itertuples(index=False, name=None)]
    table[["low", "high"]] = np.where(np.isfinite(table[["value"]]), found, np.nan)
    return in_table_order(table)


def in_table_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by the paper's order of their keys, those of KEYS that there are, and put the key columns first."""
    keys = [key for key in KEYS if key in table]
    ranks = {key: {name: rank for rank, name in enumerate(ordered(key, table[key]))} for key in keys}
    table = table.sort_values(keys, key=lambda column: column.map(ranks[str(column.name)]), ignore_index=True)
    return table[keys + [column for column in table if column not in keys]]
