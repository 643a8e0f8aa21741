"""Which cells moved, from what to what, and which images made the difference."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from rapbench.drift.compared_run import CELL, VALUES, ComparedRun

# Of a logit or a distance, and of 1 where it is smaller: near 0 its own size would ask for more digits than there are.
SAME_PLATFORM = 1e-4


@dataclass(frozen=True)
class Moved:
    """A cell that drifted. metrics: name -> (before, after). images: of those that moved, before and after."""

    cell: tuple[str, str, str, str]
    metrics: dict[str, tuple[float, float]]
    images: pd.DataFrame
    count: int


def compare(baseline: ComparedRun, run: ComparedRun, tolerances: pd.DataFrame | None) -> list[Moved]:
    """Return the cells that moved, those with the largest share of moved images first.

    tolerances: None on the same platform, where predictions and numbers of selected pixels are exact, logits and
    distances within 1e-4; elsewhere as `tolerances.derive` returns them.
    """
    before, kinds, after = baseline.values, baseline.kinds, run.values.reindex(baseline.values.index)
    after = after[before.columns]
    apart = (before - after).abs().fillna(np.inf).mask(before.isna() & after.isna(), 0)  # NaN equals NaN, and no number
    off = _off_by_digits(before, apart, kinds) if tolerances is None else _off_by_cell(apart, tolerances, kinds)
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


def _off_by_digits(before: pd.DataFrame, apart: pd.DataFrame, kinds: dict[str, str]) -> pd.Series:
    numbers = [name for name in before if kinds[str(name)] == "number"]
    digits = SAME_PLATFORM * before[numbers].abs().clip(lower=1)
    return (apart > digits.reindex(columns=before.columns).fillna(0)).any(axis=1)


def _off_by_cell(apart: pd.DataFrame, tolerances: pd.DataFrame, kinds: dict[str, str]) -> pd.Series:
    allowed = tolerances.reindex(columns=apart.columns).fillna(0)
    cells = pd.MultiIndex.from_frame(apart.index.to_frame(index=False)[CELL])
    for_each = allowed.reindex(cells).fillna(0).set_axis(apart.index)
    classes = [name for name in apart if kinds[str(name)] == "class"]
    others = [name for name in apart if name not in classes]
    off = (apart[others] > for_each[others]).any(axis=1)
    flipped = apart[classes] > 0
    too_many = flipped.groupby(level=CELL, sort=False).transform("sum") > for_each[classes]
    return off | (flipped & too_many).any(axis=1)


def _metrics(before: pd.DataFrame, after: pd.DataFrame, label: pd.Series) -> dict[str, tuple[float, float]]:
    names = {"logit": "score", "distance": "D_K"} | {str(name): str(name) for name in before if name not in VALUES}
    found = {names[name]: (before[name].mean(), after[name].mean()) for name in names if before[name].notna().any()}
    if before["predicted"].notna().any():
        first, second = (float(100 * side["predicted"].eq(label).mean()) for side in (before, after))
        found["accuracy"] = (first, second)
    return found or {"D_K": (np.nan, np.nan)}
