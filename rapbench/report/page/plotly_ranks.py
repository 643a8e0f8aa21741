"""The ranks by each metric, and the metrics' agreement, in plotly's terms: what `ranking_plots` draws on paper."""

import html
import textwrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rapbench.report.page.plotly_curves import SYMBOLS
from rapbench.report.plots import method_styles
from rapbench.report.ranking_part import Ranking
from rapbench.report.ranking_plots import LABEL, agreement_matrix
from rapbench.results.display import NAMES

ROW = 7  # pixels, of a method within a metric's row
CELL = 32  # pixels, of a pair of metrics


def ranks_figure(found: Ranking, methods: pd.Series) -> dict[str, Any]:
    """Return a row per metric, in it each method's rank with its interval. methods: all that the page shows."""
    styles, shown = method_styles(methods), found.methods
    traces = []
    for place, method in enumerate(shown):
        offset = (place + 1.5) / (len(shown) + 2) - 0.5
        points = [(number + offset, title, row) for number, title in enumerate(found.titles)
                  for _, row in found.of_metric(number, found.ranks).iterrows() if row["method"] == method]  # fmt: skip
        ranks = [float(row["rank"]) for _, _, row in points]
        ends = [(row["low"], row["high"]) if pd.notna(row["low"]) else (row["rank"], row["rank"])
                for _, _, row in points]  # fmt: skip
        said = [f"{row['rank']:g}" + (f" [{row['low']:g}, {row['high']:g}]" if pd.notna(row["low"]) else "")
                for _, _, row in points]  # fmt: skip
        traces.append({
            "type": "scatter",
            "name": html.escape(NAMES.get(method, method)),
            "mode": "markers",
            "x": ranks,
            "y": [y for y, _, _ in points],
            "line": {"color": styles[method]["color"]},
            "marker": {"symbol": SYMBOLS.get(styles[method]["marker"], "circle"), "size": 7},
            "error_x": {"type": "data", "symmetric": False, "thickness": 1.2, "width": 0,
                        "array": [float(high) - rank for rank, (_, high) in zip(ranks, ends, strict=True)],
                        "arrayminus": [rank - float(low) for rank, (low, _) in zip(ranks, ends, strict=True)]},
            "text": [html.escape(title) for _, title, _ in points],
            "customdata": said,
            "hovertemplate": "<b>%{fullData.name}</b><br>%{text}: rank %{customdata}<extra></extra>",
        })  # fmt: skip
    size, height = len(found.values), ROW * (len(shown) + 2)
    layout = {
        "xaxis": {"title": {"text": "rank (1 is the best) and 95 % interval", "standoff": 8},
                  "range": [0.5, len(shown) + 0.5], "dtick": 1},
        "yaxis": {"tickvals": list(range(size)), "ticktext": _names(found), "range": [size - 0.5, -0.5],
                  "showgrid": False, "zeroline": False},
        "shapes": [{"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "y0": number - 0.5, "y1": number + 0.5,
                    "fillcolor": "rgba(127,127,127,0.1)", "line": {"width": 0}, "layer": "below"}
                   for number in range(0, size, 2)],
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom"},
        "margin": {"l": 60, "r": 12, "t": 12, "b": 40},
        "hoverlabel": {"align": "left"},
        "height": max(34, height) * size + 180,
    }  # fmt: skip
    return _plotly(traces, layout)


def agreement_figure(found: Ranking) -> dict[str, Any]:
    """Return Spearman's correlation of the ranks by each two metrics as a heatmap."""
    matrix, said = agreement_matrix(found)
    values = [[round(float(value), 6) if np.isfinite(value) else None for value in row] for row in matrix]
    names, size = _names(found), len(matrix)
    numbers = [str(number + 1) for number in range(size)]
    trace = {
        "type": "heatmap", "z": values, "zmin": -1, "zmax": 1, "colorscale": "RdBu", "xgap": 1, "ygap": 1,
        "text": [[f"{value:z.1f}" if value is not None else "" for value in row] for row in values],
        "texttemplate": "%{text}", "colorbar": {"thickness": 12},
        "customdata": [[f"{one}<br>{other}" for other in names] for one in names],
        "hovertemplate": "%{customdata}: %{z:.2f}<extra></extra>",
    }  # fmt: skip
    layout = {
        "title": {"text": said, "font": {"size": 13}},
        "xaxis": {"tickvals": list(range(size)), "ticktext": numbers, "showgrid": False, "zeroline": False},
        "yaxis": {"tickvals": list(range(size)), "showgrid": False, "zeroline": False, "autorange": "reversed",
                  "ticktext": [f"{name}  {number}" for name, number in zip(names, numbers, strict=True)]},
        "margin": {"l": 60, "r": 12, "t": 40, "b": 40},
        "height": max(CELL * size, 120) + 120,
    }  # fmt: skip
    return _plotly([trace], layout)


def _names(found: Ranking) -> list[str]:
    return ["<br>".join(map(html.escape, textwrap.wrap(title, LABEL))) for title in found.titles]


def _plotly(traces: list[dict[str, Any]], layout: dict[str, Any]) -> dict[str, Any]:
    figure = go.Figure(data=traces, layout=layout)  # which refuses what plotly does not know
    figure.layout.template = None
    found: dict[str, Any] = figure.to_plotly_json()
    return found
