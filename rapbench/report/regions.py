"""Region perturbation: per-image scores to curves and AOPC [samek2017evaluating], and the layout of AOPC."""

from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.report.metric_tables import cell_text
from rapbench.report.per_image import by_image
from rapbench.report.statistics import bootstrap_means
from rapbench.report.table_text import Block, image_counts
from rapbench.results.display import MISSING, ordered

CELL = ["perturbation", "method", "order"]
ORDER_NAMES = {"morf": "most relevant first", "lerf": "least relevant first", "random": "random order"}
OUTPUTS = {"logit": "target logit", "probability": "probability of the target"}
LEGEND = (
    "AOPC is the mean over steps and images of f(x_0) - f(x_k). Most relevant first: higher is better. Least "
    "relevant first: lower is better. The random order is the same for every method. It shows the effect of replacing "
    "regions in itself."
)


def by_cell(regions: pd.DataFrame) -> list[pd.DataFrame]:
    """Return the rows of each perturbation, method and order, in the order of Table I.

    regions: a row for each image, perturbation, method, order and step, with `score`, f, and `output`, what f is.
    Raises RapbenchError where a row is there twice, and where an image has no step 0.
    """
    twice = regions.loc[regions.duplicated([*CELL, "image", "step"]), "image"]
    if len(twice):
        raise RapbenchError(f"region perturbation: the results hold {twice.iloc[0]} twice; run again")
    if not regions.groupby([*CELL, "image"], sort=False)["step"].min().eq(0).all():
        raise RapbenchError("region perturbation: the results have cells without step 0; run again")
    found = regions.groupby(CELL, sort=False)
    names = [ordered(name, regions[name]) for name in CELL[:2]]
    return [found.get_group(place) for place in product(*names, ORDER_NAMES) if place in found.groups]


def drop_curve(cell: pd.DataFrame) -> pd.DataFrame:
    """Average what the steps take off f: perturbation, method, order, output, step, value, n, low, high.

    cell: one of `by_cell`. value: the mean over images of f(x_0) - f(x_k), for each k from 0 to L. n: images. low,
    high: the 95 % interval, by the bootstrap over images.
    """
    drops = _drops(cell)
    return pd.DataFrame(_place(cell) | {"step": drops.columns} | _averaged(drops.to_numpy()))


def aopc(cell: pd.DataFrame) -> pd.DataFrame:
    """Return the area over that curve, 1/(L+1) of its sum over k = 0..L: one row, with L in place of `step`."""
    drops = _drops(cell)
    areas = drops.to_numpy().mean(1, keepdims=True)
    return pd.DataFrame(_place(cell) | {"L": drops.columns[-1:]} | _averaged(areas))


def aopc_blocks(table: pd.DataFrame) -> list[Block]:
    """Lay `aopc`'s rows out: a block for each perturbation, a row a method, a cell an order with its interval."""
    found = []
    for perturbation in ordered("perturbation", table["perturbation"]):
        part = table[table["perturbation"] == perturbation]
        orders = [order for order in ORDER_NAMES if order in set(part["order"])]
        shown = {(row["method"], row["order"]): cell_text(row, 3) for _, row in part.iterrows()}
        rows = [(method, [shown.get((method, order), MISSING) for order in orders])
                for method in ordered("method", part["method"])]  # fmt: skip
        named = "" if perturbation == "regions" else f" ({perturbation})"
        caption = f"Cells: value [95 % interval, by the bootstrap over images]; {image_counts(part['n'])}."
        title = f"AOPC of the {what(part)}{named}"
        found.append(Block(title, caption, [ORDER_NAMES[order] for order in orders], rows, [LEGEND], "order"))
    return found


def what(table: pd.DataFrame) -> str:
    """Say what f is and how many regions were replaced; table: of `aopc`, one perturbation."""
    first = table.iloc[0]
    return f"{OUTPUTS[first['output']]} over L = {first['L']} regions"


def _place(cell: pd.DataFrame) -> dict[str, Any]:
    return {name: cell[name].iloc[0] for name in [*CELL, "output"]}


def _drops(cell: pd.DataFrame) -> pd.DataFrame:
    """Return f(x_0) - f(x_k): a row an image, a column a step."""
    scores = by_image(cell, ["step"], "score")
    return scores.rsub(scores[0], axis=0)


def _averaged(values: np.ndarray) -> dict[str, Any]:
    """Return value, n, low, high of each column; a row an image, in the order of their names."""
    low, high = bootstrap_means(values)
    return {"value": values.mean(0), "n": len(values), "low": low, "high": high}
