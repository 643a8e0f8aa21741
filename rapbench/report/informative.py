"""Which metrics tell the best method from a random ranking, and which do not."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from rapbench.report.image_values import ImageValues
from rapbench.report.statistics import holm
from rapbench.report.verdict import BETTER, FEW, MIXED, NONE, WORSE, paired_test
from rapbench.results.display import NAMES

RANDOM = "random"
COLUMNS = [
    "model",
    "data",
    "protocol",
    "variant",
    "metric",
    "method",
    "control",
    "chosen_from",
    "n",
    "gain",
    "p",
    "p_holm",
    "finding",
]
INFORMATIVE, INVERTED, CONTRADICTORY = "told apart", "random is better", "mixed"
UNINFORMATIVE, NOT_SHOWN, UNTESTED = "uninformative", "not shown", "not tested"


def informative(
    values: Sequence[ImageValues], ranked: pd.DataFrame, controls: Collection[str], random: str = RANDOM
) -> pd.DataFrame:
    """Test by each metric whether the best method differs from a random ranking.

    Parameters
    ----------
    values : sequence of ImageValues
    ranked : DataFrame
        As `ranking` returns it, of the same values.
    controls : labels
        Methods that do not use the model; the best method is none of them.
    random : label

    Returns
    -------
    DataFrame
        COLUMNS, a row per metric; empty without `random`. method: the best one by mean. n: images. gain: by how much it
        is better. p: that of the verdict's test. p_holm: corrected for the choice of the best method (times
        `chosen_from`), and then over the metrics. finding: a metric is `uninformative` only on FEW images or more.
    """
    rows: list[dict[str, Any]] = []
    for one in values:
        place = {"protocol": one.protocol, "variant": one.variant, "metric": one.metric.name}
        mine = ranked[(ranked[list(place)] == list(place.values())).all(axis=1)].set_index("method")["rank"]
        others = [name for name in one.methods if name not in controls]
        if random in one.methods and others:
            best = min(others, key=mine.__getitem__)
            names = {"method": best, "control": random, "chosen_from": len(others)}
            model = {key: ranked[key].iloc[0] for key in ("model", "data")}
            rows.append(model | place | names | _tested(one, best, random))
    corrected = holm(np.minimum(1, np.array([row["p"] * row["chosen_from"] for row in rows])))
    for row, p in zip(rows, corrected, strict=True):
        row |= {"p_holm": p, "finding": _finding(row.pop("test"), p, row["n"])}
    return pd.DataFrame(rows, columns=COLUMNS)


def finding_text(row: pd.Series) -> str:
    """Say what `informative` found of a metric."""
    best, random, n = NAMES.get(row["method"], row["method"]), NAMES.get(row["control"], row["control"]), row["n"]
    on = f"on {n} image{'' if n == 1 else 's'}"
    return {
        INFORMATIVE: f"{on} it tells {best} from {random}",
        INVERTED: f"{on} {random} is better than {best}, the best of the others",
        CONTRADICTORY: f"{on} the ranks of the test and the means of {best} and {random} contradict each other",
        UNINFORMATIVE: f"uninformative: {on} it does not tell {best} from {random}",
        NOT_SHOWN: f"not shown {on}; {FEW} are needed to call it uninformative",
        UNTESTED: f"{best} and {random} are not tested: a value is not finite, or they share no image",
    }[row["finding"]]


def _tested(one: ImageValues, best: str, random: str) -> dict[str, Any]:
    ours, theirs = (one.values[:, one.methods.index(name)] for name in (best, random))
    there = ~np.isnan(ours).any(1) & ~np.isnan(theirs).any(1)
    ours, theirs = ours[there], theirs[there]
    if not len(ours) or not np.isfinite([ours, theirs]).all():
        return {"test": None, "n": len(ours), "gain": np.nan, "p": np.nan}
    test = paired_test(ours, theirs, one.better)
    return {"test": test, "n": len(ours), "gain": test.gain, "p": test.p}


def _finding(test: Any, p: float, n: int) -> str:
    if test is None:
        return UNTESTED
    undecided = UNINFORMATIVE if n >= FEW else NOT_SHOWN
    return {BETTER: INFORMATIVE, WORSE: INVERTED, MIXED: CONTRADICTORY, NONE: undecided}[test.outcome(p)]
