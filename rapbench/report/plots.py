"""Figures: the curves behind Table I, and the distance D_K."""

import textwrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from rapbench.report import escape
from rapbench.report.canvas import Shown
from rapbench.results.display import FIRST, METRIC_NAMES, NAMES, k_number, ordered

# Paul Tol's "muted" scheme: nine hues that colour-blind readers tell apart, one for each method known here; then black.
COLOURS = ["#88CCEE", "#999933", "#44AA99", "#DDCC77", "#117733", "#AA4499", "#CC6677", "#882255", "#332288", "#000000"]
MARKERS = "os^vDPX<>*h"
RANDOM = {"color": "#777777", "marker": "p"}
DASHES = ("solid", "dashed", "dotted")  # of the first perturbation, the second, and all others
Styles = dict[str, dict[str, Any]]  # of each method: matplotlib's keywords
PIXELS = "pixels perturbed (K)"


def curves(table: pd.DataFrame, title: str) -> Figure:
    """Draw `table1`'s accuracy and score against K: a row of panels a sign, a line a method."""
    signs, metrics = ordered("sign", table["sign"]), ordered("metric", table["metric"])
    perturbations = ordered("perturbation", table["perturbation"])
    styles = method_styles(table["method"])
    figure, panels = panel_grid(len(signs), len(metrics), title)
    for row, sign in enumerate(signs):
        for column, metric in enumerate(metrics):
            part = table[(table["sign"] == sign) & (table["metric"] == metric)]
            panel = panels[row, column]
            places = k_axis(panel, ordered("k", part["k"]))
            for names, whole in part.groupby(["method", "perturbation"], sort=False):
                method, perturbation = map(str, names)
                style = styles[method] | _stroke(perturbation, perturbations)
                for line in broken(whole):
                    panel.plot(line["k"].map(places), line["value"], **style)
            panel.set(title=f"{sign} attributions", xlabel=PIXELS, ylabel=METRIC_NAMES.get(metric, metric))
    strokes = [
        Line2D([], [], color="black", label=escape.figure(name), **_stroke(name, perturbations))
        for name in perturbations
    ]
    return with_legend(figure, styles, strokes)


def distance_curves(table: pd.DataFrame, title: str) -> Figure:
    """Draw `distance_table`'s D_K against K: mean and a band of one standard error, a panel a sign."""
    signs = ordered("sign", table["sign"])
    styles = method_styles(table["method"])
    figure, panels = panel_grid(1, len(signs), title)
    for panel, sign in zip(panels[0], signs, strict=True):
        part = table[table["sign"] == sign]
        places = k_axis(panel, ordered("k", part["k"]))
        for name, whole in part.groupby("method", sort=False):
            style = styles[str(name)]
            for line in broken(whole):
                x, error = line["k"].map(places), line["std"] / np.sqrt(line["n"])
                low, high = line["mean"] - error, line["mean"] + error
                panel.plot(x, line["mean"], **style)
                panel.fill_between(x, low, high, color=style["color"], alpha=0.2, linewidth=0)
                panel.vlines(x, low, high, color=style["color"], alpha=0.5)  # a band needs two points, 'all' is one
        name = METRIC_NAMES[part["metric"].iloc[0]]
        panel.set(title=f"{sign} attributions", xlabel=first_pixels(sign), ylabel=f"$D_K$: {name}")
    return with_legend(figure, styles, [])


def first_pixels(sign: str) -> str:
    """Return what the K first pixels of a sign are, for an axis."""
    return f"{'most negative' if sign == 'negative' else 'most relevant'} pixels (K)"


def method_styles(methods: pd.Series) -> Styles:
    """Give each method a colour and a marker; the paper's and `random` keep theirs in every figure.

    Others take what none of the paper's methods there has, as long as there is any.
    """
    there = ordered("method", methods)
    papers = FIRST["method"]
    places = {name: place for place, name in enumerate(papers) if name in there}
    free = [place for place in (*range(len(papers), len(COLOURS)), *range(len(papers))) if place not in places.values()]
    for number, name in enumerate(name for name in there if name not in places and name != "random"):
        places[name] = free[number] if number < len(free) else number
    styles: Styles = {}
    for name in there:
        own = {} if name == "random" else {"color": COLOURS[places[name] % len(COLOURS)],
                                           "marker": MARKERS[places[name] % len(MARKERS)]}  # fmt: skip
        styles[name] = (own or RANDOM) | {"markersize": 5}
    return styles


def _stroke(perturbation: str, perturbations: list[str]) -> dict[str, Any]:
    """Return the first perturbation's lines as solid, the others' thinner and broken."""
    place = perturbations.index(perturbation)
    main = place == 0
    size = {"linewidth": 1.6, "markersize": 5} if main else {"linewidth": 0.8, "markersize": 2.5}
    return {"linestyle": DASHES[min(place, 2)], **size}


def broken(line: pd.DataFrame) -> list[pd.DataFrame]:
    """Split a line's rows before 'all', which is no place on the scale of K and so is not joined to it."""
    last = line["k"] == "all"
    return [part for part in (line[~last], line[last]) if not part.empty]


def panel_grid(rows: int, columns: int, title: str) -> tuple[Figure, np.ndarray]:
    """Return a figure under its title, and its (rows, columns) panels."""
    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
    figure = Shown(figsize=(5.2 * columns, 3.6 * rows + 1.2), layout=layout)
    figure.suptitle(textwrap.fill(escape.figure(title), 55 * columns))
    return figure, figure.subplots(rows, columns, squeeze=False)


def k_axis(panel: Axes, ks: list[str]) -> dict[str, float]:
    """Set up the axis of K and return each K's place: numbers to scale, 'all' behind a gap after the largest."""
    places = {k: k_number(k) for k in ks if k != "all"}
    span = max(places.values(), default=0.0) or 1.0
    if "all" in ks:
        places["all"] = 1.15 * span
    # Ticks at every K, but labels only where they have room; from the right, where K matters most.
    labels: list[str] = []
    last = np.inf
    for k, place in reversed(places.items()):
        labels.append(k if last - place > 0.12 * span else "")
        last = place if labels[-1] else last
    panel.set_xticks(list(places.values()), labels[::-1])
    panel.grid(alpha=0.25)
    panel.spines[["top", "right"]].set_visible(False)
    return places


def with_legend(figure: Figure, styles: Styles, strokes: list[Line2D]) -> Figure:
    """Add the legend below the panels, in as many columns as fit."""
    methods = [Line2D([], [], label=escape.figure(NAMES.get(name, name)), **style) for name, style in styles.items()]
    for columns in range(3 if len(figure.axes) == 1 else 6, 0, -1):
        legend = figure.legend(
            handles=methods + strokes, loc="outside lower center", ncols=columns, frameon=False, fontsize="small"
        )
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            break
        legend.remove()
    return figure
