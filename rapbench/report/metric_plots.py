"""Any protocol's figure: curves over its steps with 95 % bands; single numbers as points with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rapbench.protocols.base.metric import Metric
from rapbench.report import escape
from rapbench.report.means import Measured
from rapbench.report.metric_tables import direction
from rapbench.report.plots import Styles, broken, k_axis, method_styles, panel_grid, with_legend
from rapbench.results.display import NAMES, ordered

POINTS = 12  # of a curve, with a marker


def metrics_figure(measured: Sequence[Measured], title: str) -> Figure:
    """Draw the means of protocols: a row of panels a metric, a column a variant."""
    rows = [(one, metric) for one in measured for metric in one.info.shown
            if (one.means["metric"] == metric.name).any()]  # fmt: skip
    variants = {one.protocol: list(dict.fromkeys(one.means["variant"])) for one in measured}
    styles = method_styles(pd.concat([one.means["method"] for one in measured]))
    figure, panels = panel_grid(len(rows), max(map(len, variants.values())), title)
    for row, (one, metric) in zip(panels, rows, strict=True):
        for panel in row[len(variants[one.protocol]) :]:
            panel.remove()
        for panel, variant in zip(row, variants[one.protocol], strict=False):
            part = one.means[(one.means["metric"] == metric.name) & (one.means["variant"] == variant)]
            if (part["k"] != "").all():
                _curves(panel, part, metric, one.info.steps, styles)
            else:
                _points(panel, part, metric, styles)
            place = " ".join(filter(None, [one.protocol if len(measured) > 1 else "", variant]))
            said = ": ".join(filter(None, [place, direction(metric, variant)]))
            panel.set_title(escape.figure(said), fontsize="medium")
            panel.grid(alpha=0.25)
            panel.spines[["top", "right"]].set_visible(False)
    return with_legend(figure, styles, [])


def _curves(panel: Axes, part: pd.DataFrame, metric: Metric, steps: str, styles: Styles) -> None:
    ks = ordered("k", part["k"])
    places = k_axis(panel, ks)
    if metric.axis == "log" and all(places[k] > 0 for k in ks):
        panel.set_xscale("log")
    every = max(1, len(ks) // POINTS)
    for method, whole in part.groupby("method", sort=False):
        style = styles[str(method)]
        for line in broken(whole):
            x = line["k"].map(places)
            panel.plot(x, line["value"], markevery=every, **style)
            panel.fill_between(x, line["low"], line["high"], color=style["color"], alpha=0.15, linewidth=0)
            if len(line) == 1:  # of which a band shows nothing
                panel.vlines(x, line["low"], line["high"], color=style["color"], alpha=0.5)
    panel.set(xlabel=escape.figure(steps), ylabel=escape.figure(metric.heading))


def _points(panel: Axes, part: pd.DataFrame, metric: Metric, styles: Styles) -> None:
    for place, (_, row) in enumerate(part.iloc[::-1].iterrows()):
        style = {name: value for name, value in styles[row["method"]].items() if name != "linestyle"}
        known = np.isfinite([row["low"], row["high"]]).all()
        # An interval is rounded, and may so begin beyond its value by the last digits.
        error = np.maximum([[row["value"] - row["low"]], [row["high"] - row["value"]]], 0) if known else None
        panel.errorbar(row["value"], place, xerr=error, capsize=3, **style)
    names = [escape.figure(NAMES.get(method, method)) for method in part["method"].iloc[::-1]]
    panel.set_yticks(range(len(names)), names)
    panel.set(xlabel=escape.figure(metric.heading))
