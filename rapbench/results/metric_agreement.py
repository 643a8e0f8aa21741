"""How far metrics agree on the order of the methods."""

from collections.abc import Collection, Iterator
from itertools import combinations

import numpy as np
import pandas as pd

from rapbench.results.ranks import kendalls_w

METRIC = ["protocol", "variant", "metric"]
MODEL = ["model", "data"]
ALL, OTHERS = "all", "without controls"
CONCORDANCE = [*MODEL, "over", "metrics", "methods", "names", "w", "p"]
CORRELATIONS = [*MODEL, *METRIC, *(f"other_{key}" for key in METRIC), "methods", "spearman",
                "methods_without_controls", "spearman_without_controls"]  # fmt: skip
FEWEST = 3  # methods: two are in one order or the other


def concordance(ranked: pd.DataFrame, controls: Collection[str]) -> pd.DataFrame:
    """Say how far all metrics of a model agree: Kendall's W [kendall1939problem], corrected for ties.

    Parameters
    ----------
    ranked : DataFrame
        As `ranks.ranks` returns it.
    controls : labels
        Methods that do not use the model. Most metrics rank them last, so with them W is higher.

    Returns
    -------
    DataFrame
        CONCORDANCE: a row over `all` methods and one `without controls`, if there are any. Only methods that every
        metric ranks count: `methods` of them, `names`. Empty with fewer than two metrics or three methods.
    """
    rows = []
    for model, wide in _by_model(ranked):
        for over, whole in _choices(wide.dropna(axis=0), controls):
            if whole.shape[1] >= 2 and len(whole) >= FEWEST:
                w, p = kendalls_w(whole.rank().to_numpy().T)
                known = {
                    "over": over,
                    "metrics": whole.shape[1],
                    "methods": len(whole),
                    "names": ", ".join(whole.index),
                }
                rows.append(model | known | {"w": round(w, 10), "p": p})
    return pd.DataFrame(rows, columns=CONCORDANCE)


def correlations(ranked: pd.DataFrame, controls: Collection[str]) -> pd.DataFrame:
    """Correlate the ranks by each two metrics of a model: Spearman's coefficient [spearman1904proof].

    Returns
    -------
    DataFrame
        CORRELATIONS, a row per pair. methods: how many both rank. spearman: NaN for fewer than three, and where one
        metric ranks all the same. Both over all methods and without the controls.
    """
    parts = []
    for model, wide in _by_model(ranked):
        pairs = np.array(list(combinations(range(wide.shape[1]), 2))).reshape(-1, 2).T
        if not pairs.size:
            continue
        part = pd.DataFrame([[*wide.columns[one], *wide.columns[other]] for one, other in pairs.T],
                            columns=CORRELATIONS[2:8])  # fmt: skip
        for chosen, suffix in ((wide, ""), (_without(wide, controls), "_without_controls")):
            there = chosen.notna().to_numpy().astype(int)
            part[f"methods{suffix}"] = (there.T @ there)[*pairs]
            found = chosen.corr(method="spearman", min_periods=FEWEST).to_numpy()
            part[f"spearman{suffix}"] = np.round(found[*pairs], 10)
        parts.append(part.assign(**model))
    return pd.concat(parts, ignore_index=True)[CORRELATIONS] if parts else pd.DataFrame(columns=CORRELATIONS)


def _by_model(ranked: pd.DataFrame) -> Iterator[tuple[dict[str, str], pd.DataFrame]]:
    """Yield each model, with the rank of each method, a row, by each metric, a column, in their order."""
    for model, part in ranked.groupby(MODEL, sort=False):
        wide = part.pivot(index="method", columns=METRIC, values="rank")
        columns = pd.MultiIndex.from_frame(part[METRIC].drop_duplicates())
        yield dict(zip(MODEL, map(str, model), strict=True)), wide.reindex(part["method"].unique())[columns]


def _choices(wide: pd.DataFrame, controls: Collection[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    others = _without(wide, controls)
    yield ALL, wide
    if len(others) < len(wide):
        yield OTHERS, others


def _without(wide: pd.DataFrame, controls: Collection[str]) -> pd.DataFrame:
    return wide[[name not in controls for name in wide.index]]
