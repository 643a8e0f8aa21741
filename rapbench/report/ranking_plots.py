"""Figures of the ranks by each metric, and of the metrics' agreement."""

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from rapbench.report import escape
from rapbench.report.canvas import Shown
from rapbench.report.plots import method_styles, with_legend

if TYPE_CHECKING:
    from rapbench.report.ranking_part import Ranking

ROW = 0.045  # inches, of a method within a metric's row
CELL = 0.42  # inches, of a pair of metrics
LABEL = 34  # letters of a metric's name in a line


def ranks_figure(found: "Ranking", title: str) -> Figure:
    """Draw a row per metric, in it each method's rank with its interval, methods below one another."""
    styles = method_styles(found.ranks["method"])
    methods = list(styles)
    height = ROW * (len(methods) + 2)
    figure = Shown(figsize=(8, max(0.3, height) * len(found.values) + 1.8), layout=ConstrainedLayoutEngine())
    figure.suptitle(textwrap.fill(escape.figure(title), 75), fontsize="medium")
    panel = figure.subplots()
    offsets = {method: (place + 1.5) / (len(methods) + 2) - 0.5 for place, method in enumerate(methods)}
    for number in range(len(found.values)):
        if number % 2 == 0:
            panel.axhspan(number - 0.5, number + 0.5, color="#f1f1f1", linewidth=0, zorder=0)
        for _, row in found.of_metric(number, found.ranks).iterrows():
            style = {name: value for name, value in styles[row["method"]].items() if name != "linestyle"}
            y = number + offsets[row["method"]]
            panel.hlines(y, row["low"], row["high"], color=style["color"], linewidth=1.2, zorder=2)
            panel.plot(row["rank"], y, linestyle="none", zorder=3, **style | {"markersize": 4})
    names = [textwrap.fill(escape.figure(name), LABEL) for name in found.titles]
    panel.set_yticks(range(len(names)), names, fontsize="small")
    panel.set_ylim(len(names) - 0.5, -0.5)
    panel.set_xlim(0.5, len(methods) + 0.5)
    panel.set_xticks(range(1, len(methods) + 1))
    panel.set_xlabel("rank (1 is the best) and 95 % interval")
    panel.grid(axis="x", alpha=0.25)
    panel.tick_params(axis="y", length=0)
    panel.spines[["top", "right", "left"]].set_visible(False)
    return with_legend(figure, styles, [])


def agreement_heatmap(found: "Ranking", title: str) -> Figure:
    """Draw Spearman's correlation of the ranks by each two metrics."""
    matrix, said = agreement_matrix(found)
    size = len(matrix)
    figure = Shown(figsize=(CELL * size + 4.6, CELL * size + 1.6), layout=ConstrainedLayoutEngine(compress=True))
    figure.suptitle(textwrap.fill(escape.figure(title), 9 * size + 40), fontsize="medium")
    panel = figure.subplots()
    image = panel.imshow(matrix, cmap="RdBu", vmin=-1, vmax=1)
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            colour = "white" if abs(value) > 0.7 else "black"
            panel.text(column, row, f"{value:z.1f}", ha="center", va="center", color=colour, fontsize=7)
    names = [escape.figure(name) for name in found.titles]
    panel.set_xticks(range(size), [str(number + 1) for number in range(size)], fontsize="small")
    panel.set_yticks(range(size), [f"{textwrap.fill(name, LABEL)}  {number + 1}" for number, name in enumerate(names)],
                     fontsize="small")  # fmt: skip
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    panel.set_title(textwrap.fill(said, 9 * size + 40), fontsize="small")
    figure.colorbar(image, ax=panel, shrink=min(1.0, 4 / (CELL * size)), label="Spearman's correlation")
    return figure


def agreement_matrix(found: "Ranking") -> tuple[np.ndarray, str]:
    """Return the metrics' correlations, NaN where there is none, and a sentence on what they are of.

    They are without the controls where three other methods are left.
    """
    size = len(found.values)
    others = [method for method in found.methods if method not in found.controls]
    alone = len(others) >= 3 and len(others) < len(found.methods)
    matrix = np.full((size, size), np.nan)
    rows, columns = np.triu_indices(size, 1)
    column = "spearman_without_controls" if alone else "spearman"
    matrix[rows, columns] = matrix[columns, rows] = found.correlations[column].to_numpy(float)
    over = "without the controls" if alone else "controls included" if found.controls else "all methods"
    matrix[np.diag_indices(size)] = np.where(np.isfinite(matrix).any(1), 1, np.nan)
    return matrix, f"Spearman's correlation of the methods' ranks, {over}; empty: fewer than 3 methods, or all are tied"
