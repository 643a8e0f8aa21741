"""Curves for the page, in plotly's terms: what `plots` draws on paper, with hover."""

import html
import math
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from rapbench.report.plots import PIXELS, method_styles
from rapbench.results.display import NAMES, ordered

SYMBOLS = {"o": "circle", "s": "square", "^": "triangle-up", "v": "triangle-down", "D": "diamond", "P": "cross",
           "X": "x", "<": "triangle-left", ">": "triangle-right", "*": "star", "h": "hexagon",
           "p": "pentagon"}  # fmt: skip


def colours(methods: pd.Series) -> dict[str, str]:
    """Return each method's colour, as in every other figure."""
    return {name: style["color"] for name, style in method_styles(methods).items()}


def curve(
    part: pd.DataFrame, paper: pd.DataFrame, value: str, title: str, methods: pd.Series, pixels: str = PIXELS
) -> dict[str, Any]:
    """Return a figure of `part`'s value against K, a line a method with its interval, as plotly's JSON.

    part: rows of one sign, metric and perturbation, with method, k, value, low, high, n. paper: the paper's rows of the
    same, drawn hidden. methods: all that the page shows, so that each keeps its colour. title, pixels: of the axes.
    """
    styles, ks = method_styles(methods), ordered("k", part["k"])
    traces: list[dict[str, Any]] = []
    for method in ordered("method", part["method"]):
        for rows, printed in ((part, False), (paper, True)):
            line = rows[(rows["method"] == method) & rows["k"].isin(ks)]
            for last in (False, True):
                points = line[(line["k"] == "all") == last]
                if not points.empty:
                    first = not printed and not any(trace["legendgroup"] == method for trace in traces)
                    traces.append(_trace(points, value, styles[method], method, printed, first))
    layout = {
        "xaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": ks,
            "title": {"text": pixels, "standoff": 8},
        },
        "yaxis": {"title": {"text": title}},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        "margin": {"l": 60, "r": 12, "t": 12, "b": 40},
        "hoverlabel": {"align": "left"},
        "height": 480,
    }
    figure = go.Figure(data=traces, layout=layout)  # which refuses what plotly does not know
    figure.layout.template = None
    found: dict[str, Any] = figure.to_plotly_json()
    return found


def _trace(
    points: pd.DataFrame, value: str, style: dict[str, Any], method: str, printed: bool, first: bool
) -> dict[str, Any]:
    name = html.escape(NAMES.get(method, method))  # plotly reads some HTML in names
    values = _numbers(points[value])
    trace = {
        "type": "scatter",
        "name": f"{name}, paper" if printed else name,
        "legendgroup": method,
        "showlegend": first,
        "mode": "lines+markers",
        "x": points["k"].tolist(),
        "y": values,
        "line": {"color": style["color"], "width": 1.5 if printed else 2, "dash": "dot" if printed else "solid"},
        "marker": {"symbol": SYMBOLS.get(style["marker"], "circle") + ("-open" if printed else ""), "size": 8},
        "meta": "paper" if printed else "ours",
        "visible": not printed,
        "hovertemplate": "<b>%{fullData.name}</b><br>K = %{x}: %{y:.2f}<extra></extra>",
    }
    if not printed:
        low, high = _numbers(points["low"]), _numbers(points["high"])
        ends = [(None, None, "") if y is None or a is None or b is None else (y - a, b - y, f" [{a:.2f}, {b:.2f}]")
                for y, a, b in zip(values, low, high, strict=True)]  # fmt: skip
        below, above, said = (list(column) for column in zip(*ends, strict=True))
        trace["error_y"] = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "visible": False,
                            "thickness": 1, "width": 3}  # fmt: skip
        trace["customdata"] = said
        trace["text"] = [f"{n} image{'' if n == 1 else 's'}" for n in points["n"]]
        trace["hovertemplate"] = "<b>%{fullData.name}</b><br>K = %{x}: %{y:.2f}%{customdata}<br>%{text}<extra></extra>"
    return trace


def _numbers(values: pd.Series) -> list[float | None]:
    """Return numbers as JSON knows them, in as many digits as a page needs."""
    return [round(value, 6) if math.isfinite(value) else None for value in values.tolist()]
