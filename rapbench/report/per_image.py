"""Per-image results by cell: each image once, side by side, and the intervals of the means."""

from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.report.statistics import bootstrap_means


def refuse_twice(frame: pd.DataFrame, cell: list[str]) -> None:
    """Raise RapbenchError where a cell holds an image twice: its mean would be of another set of images."""
    if (twice := frame.duplicated([*cell, "image"])).any():
        first = frame[twice].iloc[0]
        place = ", ".join(str(first[key]) for key in cell)
        raise RapbenchError(f"the results hold {first['image']} twice ({place}); run again")


def by_image(frame: pd.DataFrame, cell: list[str], value: str) -> pd.DataFrame:
    """Return a value of each image (a row, by name) in each cell (a column); NaN where an image is not in a cell."""
    columns = cell if len(cell) > 1 else cell[0]
    return frame.pivot(index="image", columns=columns, values=value).astype(float)


def bootstrap_intervals(frame: pd.DataFrame, cell: list[str], value: str) -> dict[tuple[Any, ...], tuple[float, float]]:
    """Return the interval of each cell's mean. Cells of the same images see the same draws."""
    wide = by_image(frame, cell, value)
    ends: dict[tuple[Any, ...], tuple[float, float]] = {}
    there = wide.notna()
    for pattern, columns in there.T.groupby(there.T.apply(lambda row: row.to_numpy().tobytes(), axis=1)):
        chosen = wide[columns.index][np.frombuffer(pattern, dtype=bool)]
        ends |= zip(columns.index, zip(*bootstrap_means(chosen.to_numpy()), strict=True), strict=True)
    return ends
