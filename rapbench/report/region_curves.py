"""The figure of region perturbation: what each step takes off f, in two orders, beside the random one."""

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rapbench.report.plots import method_styles, panel_grid, with_legend
from rapbench.report.regions import ORDER_NAMES, OUTPUTS
from rapbench.results.display import ordered

BASELINE: dict[str, Any] = {"color": "black", "linestyle": "dashed", "linewidth": 1.6}  # the random order
POINTS = 10  # of a line, with a marker


def region_curves(table: pd.DataFrame, title: str) -> Figure:
    """Draw the rows of `regions.drop_curve`: a row of panels a perturbation, a column an order.

    A line a method with its 95 % band; the random order, one for all methods, in each panel.
    """
    perturbations = ordered("perturbation", table["perturbation"])
    orders = [order for order in ORDER_NAMES if order != "random"]
    styles = method_styles(table["method"])
    figure, panels = panel_grid(len(perturbations), len(orders), title)
    for row, perturbation in zip(panels, perturbations, strict=True):
        part = table[table["perturbation"] == perturbation]
        row[1].sharey(row[0])
        for panel, order in zip(row, orders, strict=True):
            for method, line in part[part["order"] == order].groupby("method", sort=False):
                _draw(panel, line, styles[str(method)])
            drawn = part[part["order"] == "random"]
            _draw(panel, drawn[drawn["method"] == drawn["method"].iloc[0]], BASELINE)
            of = OUTPUTS[part["output"].iloc[0]]
            panel.set(title=ORDER_NAMES[order], xlabel="regions replaced (k)", ylabel=f"drop of the {of}")
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
            panel.margins(x=0.02)
    return with_legend(figure, styles, [Line2D([], [], label=ORDER_NAMES["random"], **BASELINE)])


def _draw(panel: Axes, line: pd.DataFrame, style: dict[str, Any]) -> None:
    every = max(1, line["step"].max() // POINTS)
    panel.plot(line["step"], line["value"], markevery=every, **style)
    panel.fill_between(line["step"], line["low"], line["high"], color=style["color"], alpha=0.1, linewidth=0)
