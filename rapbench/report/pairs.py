"""Every pair of methods on the same images: paired tests, cell by cell."""

from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from rapbench.report.statistics import holm, mcnemar, wilcoxon
from rapbench.report.tables import by_image, ordered

COLUMNS = ["sign", "metric", "perturbation", "k", "method", "other", "n", "difference", "higher", "lower", "test", "p",
           "p_holm"]  # fmt: skip
FAMILY = "Holm-corrected over all pairs of methods in one cell of sign, metric, perturbation and K"


def pair_tests(images: pd.DataFrame) -> pd.DataFrame:
    """Test each pair of methods in each cell, over the images that both have: COLUMNS, in the order of Table I.

    difference: the mean of method - other (accuracy in points, score in logits). higher, lower: on how many images
    method is above, below other. test: exact McNemar for accuracy, Wilcoxon's signed ranks for scores; p is two-sided,
    p_holm corrected over the pairs of the cell. K = 0, where every method has the same image, is left out.
    """
    images = images[images["k"] != "0"]
    rows: list[dict[str, Any]] = []
    for sign in ordered("sign", images["sign"]):
        for metric, value in (("accuracy", "correct"), ("score", "logit")):
            for perturbation in ordered("perturbation", images["perturbation"]):
                part = images[(images["sign"] == sign) & (images["perturbation"] == perturbation)]
                for k in ordered("k", part["k"]):
                    place = {"sign": sign, "metric": metric, "perturbation": perturbation, "k": k}
                    rows += [place | row for row in _cell(part[part["k"] == k], metric, value)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _cell(part: pd.DataFrame, metric: str, value: str) -> list[dict[str, Any]]:
    """Test the pairs of one cell: one family."""
    wide, there = by_image(part, ["method"], value), by_image(part, ["method"], "correct").notna()
    values = {name: wide[name].to_numpy() for name in ordered("method", part["method"])}
    known = {name: there[name].to_numpy() for name in values}
    rows: list[dict[str, Any]] = []
    for method, other in combinations(values, 2):
        differences = (values[method] - values[other])[known[method] & known[other]]
        if not len(differences):
            continue
        higher, lower = np.count_nonzero(differences > 0), np.count_nonzero(differences < 0)
        if metric == "accuracy":
            test, p, scale = "McNemar", float(mcnemar(np.array(higher), np.array(lower))), 100.0
        else:
            test, p, scale = "Wilcoxon", wilcoxon(differences)[0], 1.0
        mean = scale * np.sort(differences).mean()
        rows.append({"method": method, "other": other, "n": len(differences), "difference": mean, "higher": higher,
                     "lower": lower, "test": test, "p": p})  # fmt: skip
    for row, corrected in zip(rows, holm(np.array([row["p"] for row in rows])), strict=True):
        row["p_holm"] = corrected
    return rows
