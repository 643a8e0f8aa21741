"""Every pair of methods on the same images: paired tests, cell by cell."""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rapbench.report.per_image import by_image
from rapbench.report.statistics import holm, mcnemar, wilcoxon
from rapbench.results.display import ordered

COLUMNS = ["sign", "metric", "perturbation", "k", "method", "other", "n", "difference", "higher", "lower", "test", "p",
           "p_holm"]  # fmt: skip
FAMILY = "Holm-corrected over all pairs of methods in one cell of sign, metric, perturbation and K"


METRICS = {"accuracy": "correct", "score": "logit"}  # Table I's, with their columns


def pair_tests(images: pd.DataFrame, metrics: Mapping[str, str] = METRICS) -> pd.DataFrame:
    """Test each pair of methods in each cell, over the images that both have: COLUMNS, in the order of Table I.

    metrics: each one's column; of truth values it is a share. difference: the mean of method - other, of a share in
    points. higher, lower: on how many images method is above, below other. test: exact McNemar for shares, Wilcoxon's
    signed ranks for all else; p is two-sided, p_holm corrected over the pairs of the cell. K = 0, where every method
    has the same image, is not tested.
    """
    images = images[images["k"] != "0"]
    rows: list[dict[str, Any]] = []
    for sign in ordered("sign", images["sign"]):
        for metric, value in metrics.items():
            for perturbation in ordered("perturbation", images["perturbation"]):
                part = images[(images["sign"] == sign) & (images["perturbation"] == perturbation)]
                for k in ordered("k", part["k"]):
                    place = {"sign": sign, "metric": metric, "perturbation": perturbation, "k": k}
                    rows += [place | row for row in _cell(part[part["k"] == k], value)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _cell(part: pd.DataFrame, value: str) -> list[dict[str, Any]]:
    """Test the pairs of one cell: one family."""
    wide, there = (
        by_image(frame, ["method"], name) for frame, name in ((part, value), (part.assign(there=1), "there"))
    )
    share = pd.api.types.is_bool_dtype(part[value])
    values = {name: wide[name].to_numpy() for name in ordered("method", part["method"])}
    known = {name: there[name].notna().to_numpy() for name in values}
    rows: list[dict[str, Any]] = []
    for method, other in combinations(values, 2):
        differences = (values[method] - values[other])[known[method] & known[other]]
        if not len(differences):
            continue
        higher, lower = np.count_nonzero(differences > 0), np.count_nonzero(differences < 0)
        if share:
            test, p, scale = "McNemar", float(mcnemar(np.array(higher), np.array(lower))), 100.0
        else:
            test, p, scale = "Wilcoxon", wilcoxon(differences)[0], 1.0
        mean = scale * np.sort(differences).mean()
        rows.append({"method": method, "other": other, "n": len(differences), "difference": mean, "higher": higher,
                     "lower": lower, "test": test, "p": p})  # fmt: skip
    for row, corrected in zip(rows, holm(np.array([row["p"] for row in rows])), strict=True):
        row["p_holm"] = corrected
    return rows
