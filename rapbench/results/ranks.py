"""Ranks of methods by each metric, and how far several networks, or metrics, agree on them."""

import math
from typing import Any

import numpy as np
import pandas as pd

PLACE = ["data", "protocol", "variant", "metric"]
COLUMNS = [*PLACE, "method", "models", "mean_rank", "w", "p"]


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that count in `scores`: of the steps above 0 that all methods of a model have by a metric.

    Parameters
    ----------
    table : DataFrame
        As `Results.table` returns it. `all`, another number of pixels for each method, counts only where there is no
        other step. A method without any number is left out; where the others share no step, all are.
    """
    place = ["model", *PLACE]
    known = table[(table["k"] != "0") & (table["better"] != "") & table["value"].notna()]
    numbers = known[known["k"] != "all"]
    stepped = known[place].merge(numbers[place].drop_duplicates(), how="left", indicator="found")["found"] == "both"
    chosen = known[(known["k"] != "all") | ~stepped.to_numpy()]
    methods = chosen.groupby(place)["method"].transform("nunique")
    return chosen[chosen.groupby([*place, "k"])["method"].transform("nunique") == methods]


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return one value per model, method and metric: its mean over the rows that are `counted`.

    Returns
    -------
    DataFrame
        model, PLACE, method, better and value.
    """
    keys = ["model", *PLACE, "method", "better"]
    return counted(table).groupby(keys, sort=False)["value"].mean().reset_index()


def decimals(values: Any) -> int:
    """Return to how many decimals numbers count as different: 9; more where these are not 6 digits of the largest.

    Means that are equal differ in their last bits, by the order in which they are summed.
    """
    sizes = np.abs(np.asarray(values, dtype=float))
    largest = sizes[np.isfinite(sizes)].max(initial=0)
    return max(9, 5 - math.floor(math.log10(largest))) if largest > 0 else 9


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Rank the methods by each metric in each model; 1 is the best, ties share their mean rank.

    Returns
    -------
    DataFrame
        model, PLACE, method, value and rank.
    """
    found = scores(table)
    higher = found["better"] == "higher"
    places = [found[key] for key in ["model", *PLACE]]
    found["value"] = found["value"].groupby(places).transform(lambda part: part.round(decimals(part)))
    signed = found["value"].where(~higher, -found["value"])
    found["rank"] = signed.groupby(places).rank(method="average")
    return found.drop(columns="better")


def agreement(ranked: pd.DataFrame) -> pd.DataFrame:
    """Say how far the models agree on the order of the methods.

    Over the methods that every model of a data set has: the mean rank, and Kendall's coefficient of concordance W,
    corrected for ties (Kendall and Babington Smith 1939), with the p of its chi-squared approximation.

    Parameters
    ----------
    ranked : DataFrame
        As `ranks` returns it.

    Returns
    -------
    DataFrame
        COLUMNS, for each place with two models and three methods at least; empty where there is none.
    """
    rows = []
    for place, part in ranked.groupby(PLACE, sort=False):
        wide = part.pivot(index="model", columns="method", values="value").dropna(axis=1)
        signs = part.set_index(["model", "method"])["rank"]
        if len(wide) < 2 or wide.shape[1] < 3:
            continue
        mine = signs.unstack()[wide.columns].rank(axis=1)
        w, p = kendalls_w(mine.to_numpy())
        rows += [dict(zip(PLACE, place, strict=True)) | {
            "method": method, "models": len(wide), "mean_rank": mine[method].mean(), "w": w, "p": p}
            for method in wide.columns]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def kendalls_w(ranked: np.ndarray) -> tuple[float, float]:
    """Return Kendall's W of (raters, items) ranks, corrected for ties, and its p; NaN where all items are tied."""
    from scipy import stats

    raters, items = ranked.shape
    sums = ranked.sum(0)
    spread = ((sums - sums.mean()) ** 2).sum()
    ties = sum((counts**3 - counts).sum() for counts in (np.unique(row, return_counts=True)[1] for row in ranked))
    most = raters**2 * (items**3 - items) - raters * ties
    if most == 0:
        return float("nan"), float("nan")
    w = float(12 * spread / most)
    return w, float(stats.chi2.sf(raters * (items - 1) * w, items - 1))
