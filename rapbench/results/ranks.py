"""Ranks of methods by each metric, and how far several networks, or metrics, agree on them."""

import numpy as np
import pandas as pd

PLACE = ["data", "protocol", "variant", "metric"]
COLUMNS = [*PLACE, "method", "models", "mean_rank", "w", "p"]


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Return one value per model, method and metric: its mean over the steps above 0 that all the methods there have.

    Parameters
    ----------
    table : DataFrame
        As `Results.table` returns it. `all`, another number of pixels for each method, counts only where there is no
        other step. A method without any number is left out; where the others share no step, all are.

    Returns
    -------
    DataFrame
        model, PLACE, method, better and value.
    """
    place, keys = ["model", *PLACE], ["model", *PLACE, "method", "better"]
    known = table[(table["k"] != "0") & (table["better"] != "") & table["value"].notna()]
    numbers = known[known["k"] != "all"]
    stepped = known[place].merge(numbers[place].drop_duplicates(), how="left", indicator="found")["found"] == "both"
    chosen = known[(known["k"] != "all") | ~stepped.to_numpy()]
    methods = chosen.groupby(place)["method"].transform("nunique")
    chosen = chosen[chosen.groupby([*place, "k"])["method"].transform("nunique") == methods]
    return chosen.groupby(keys, sort=False)["value"].mean().reset_index()


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Rank the methods by each metric in each model; 1 is the best, ties share their mean rank.

    Returns
    -------
    DataFrame
        model, PLACE, method, value and rank.
    """
    found = scores(table)
    higher = found["better"] == "higher"
    # Means that differ in their last bits alone are equal.
    found["value"] = found["value"].round(9)
    signed = found["value"].where(~higher, -found["value"])
    found["rank"] = signed.groupby([found[key] for key in ["model", *PLACE]]).rank(method="average")
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
