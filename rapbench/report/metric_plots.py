"""Any protocol's figure: curves over its steps with 95 % bands; single numbers as points with intervals."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rapbench.report import escape
from rapbench.report.metric_tables import direction
from rapbench.report.plots import k_axis, method_styles, panel_grid, with_legend
from rapbench.report.tables import NAMES, ordered
from rapbench.results.info import ProtocolInfo
from rapbench.results.metric import Metric

POINTS = 12  # of a curve, with a marker


def metric_figure(table: pd.DataFrame, info: ProtocolInfo, title: str) -> Figure:
    """Draw `means` of a protocol: a row of panels a metric, a column a variant."""
    metrics = [metric for metric in info.shown if (table["metric"] == metric.name).any()]
    variants = list(dict.fromkeys(table["variant"]))
    styles = method_styles(table["method"])
    figure, panels = panel_grid(len(metrics), len(variants), title)
    for row, metric in zip(panels, metrics, strict=True):
        for panel, variant in zip(row, variants, strict=True):
            part = table[(table["metric"] == metric.name) & (table["variant"] == variant)]
            if (part["k"] != "").all():
                _curves(panel, part, metric, info.steps, styles)
            else:
                _points(panel, part, metric, styles)
            said = ": ".join(filter(None, [variant, direction(metric, variant)]))
            panel.set_title(escape.figure(said), fontsize="medium")
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
    return with_legend(figure, styles, [])


def _curves(panel: Axes, part: pd.DataFrame, metric: Metric, steps: str, styles: dict[str, dict]) -> None:
    ks = ordered("k", part["k"])
    places = k_axis(panel, ks)
    if metric.axis == "log" and all(places[k] > 0 for k in ks):
        panel.set_xscale("log")
    every = max(1, len(ks) // POINTS)
    for method, line in part.groupby("method", sort=False):
        style, x = styles[str(method)], line["k"].map(places)
        panel.plot(x, line["value"], markevery=every, **style)
        panel.fill_between(x, line["low"], line["high"], color=style["color"], alpha=0.15, linewidth=0)
    panel.set(xlabel=escape.figure(steps), ylabel=escape.figure(metric.heading))


def _points(panel: Axes, part: pd.DataFrame, metric: Metric, styles: dict[str, dict]) -> None:
    for place, (_, row) in enumerate(part.iloc[::-1].iterrows()):
        style = {name: value for name, value in styles[row["method"]].items() if name != "linestyle"}
        known = np.isfinite([row["low"], row["high"]]).all()
        error = [[row["value"] - row["low"]], [row["high"] - row["value"]]] if known else None
        panel.errorbar(row["value"], place, xerr=error, capsize=3, **style)
    names = [escape.figure(NAMES.get(method, method)) for method in part["method"].iloc[::-1]]
    panel.set_yticks(range(len(names)), names)
    panel.set(xlabel=escape.figure(metric.heading))
