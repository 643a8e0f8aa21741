"""Which cells moved, from what to what, and which images made the difference."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rapbench.drift.results import CELL, VALUES, Results

# Of a logit or a distance, and of 1 where it is smaller: near 0 its own size would ask for more digits than there are.
SAME_PLATFORM = 1e-4


@dataclass(frozen=True)
class Moved:
    """A cell that drifted. metrics: name -> (before, after). images: VALUES before and after of those that moved."""

    cell: tuple[str, str, str, str]
    metrics: dict[str, tuple[float, float]]
    images: pd.DataFrame
    count: int


def compare(baseline: Results, run: Results, tolerances: pd.DataFrame | None) -> list[Moved]:
    """Return the cells that moved, those with the largest share of moved images first.

    tolerances: None on the same platform, where predictions and numbers of selected pixels are exact, logits and
    distances within 1e-4; elsewhere as `tolerances.derive` returns them.
    """
    before, after = baseline.values, run.values.reindex(baseline.values.index)
    apart = (before - after).abs().fillna(np.inf).mask(before.isna() & after.isna(), 0)  # NaN equals NaN, and no number
    off = _off_by_digits(before, apart) if tolerances is None else _off_by_cell(apart, tolerances)
    if not off.any():
        return []
    label = pd.Series(before.index.get_level_values("image").map(baseline.labels), before.index)
    found = []
    for _, rows in pd.concat({"before": before, "after": after}, axis=1).groupby(level=CELL, sort=False):
        here = off.loc[rows.index].to_numpy()
        if here.any():
            names = rows.index.get_level_values("image")
            method, protocol, sign, k = rows.index[0][:4]
            metrics = _metrics(before.loc[rows.index], after.loc[rows.index], label.loc[rows.index])
            found.append(Moved((method, protocol, sign, k), metrics, rows[here].set_axis(names[here]), len(rows)))
    return sorted(found, key=lambda moved: -len(moved.images) / moved.count)


def _off_by_digits(before: pd.DataFrame, apart: pd.DataFrame) -> pd.Series:
    digits = SAME_PLATFORM * before[["logit", "distance"]].abs().clip(lower=1)
    allowed = digits.reindex(columns=VALUES).fillna({"selected": 0, "predicted": 0})
    return (apart > allowed.fillna(0)).any(axis=1)


def _off_by_cell(apart: pd.DataFrame, tolerances: pd.DataFrame) -> pd.Series:
    allowed = tolerances.reindex(columns=VALUES).fillna(0)
    cells = pd.MultiIndex.from_frame(apart.index.to_frame(index=False)[CELL])
    for_each = allowed.reindex(cells).fillna(0).set_axis(apart.index)
    numbers = ["selected", "logit", "distance"]
    off = (apart[numbers] > for_each[numbers]).any(axis=1)
    flipped = apart["predicted"] > 0
    too_many = flipped.groupby(level=CELL, sort=False).transform("sum") > for_each["predicted"]
    return off | (flipped & too_many)


def _metrics(before: pd.DataFrame, after: pd.DataFrame, label: pd.Series) -> dict[str, tuple[float, float]]:
    if before["predicted"].isna().all():
        return {"D_K": (before["distance"].mean(), after["distance"].mean())}
    first, second = (float(100 * side["predicted"].eq(label).mean()) for side in (before, after))
    return {"accuracy": (first, second), "score": (before["logit"].mean(), after["logit"].mean())}
