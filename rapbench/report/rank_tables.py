"""The ranks of methods by each metric in several models, laid out for text and for the page."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd
from tabulate import tabulate

from rapbench.report import escape
from rapbench.results.display import NAMES
from rapbench.results.ranks import PLACE

RANKS = "Rank of each method by its mean over the steps that all methods have; 1 is the best."
W = "W: Kendall's coefficient of concordance, how far the models agree on the order (1: completely, 0: not at all)."


class RankTable(NamedTuple):
    """Ranks by one metric. rows: a method's name, its rank in each model and, where models are compared, the mean."""

    title: str
    heads: list[str]
    rows: list[list[str]]


def rank_tables(ranked: pd.DataFrame, agreed: pd.DataFrame) -> list[RankTable]:
    """Return a table for each metric of `ranks`, with how far the models agree where `agreement` tells it."""
    models = list(dict.fromkeys(ranked["model"]))
    found = []
    for place, part in ranked.groupby(PLACE, sort=False):
        wide = part.pivot(index="method", columns="model", values="rank")
        known = agreed[(agreed[PLACE] == list(place)).all(axis=1)].set_index("method")
        rows = []
        for method in wide.mean(axis=1).sort_values(kind="stable").index:
            row = [NAMES.get(method, method), *(_rank(wide.loc[method].get(model)) for model in models)]
            rows.append(row + ([_rank(known["mean_rank"].get(method))] if len(known) else []))
        title = f"{' · '.join(str(word) for word in place[1:] if word)}."
        if len(known):
            title += f" W = {known['w'].iloc[0]:.2f}, p = {known['p'].iloc[0]:.3g}, {len(models)} models."
        found.append(RankTable(title, ["method", *models, *(["mean"] if len(known) else [])], rows))
    return found


def ranks_explained(agreed: pd.DataFrame) -> str:
    """Say what the ranks are and, where models are compared, how."""
    return f"{RANKS} {W}" if len(agreed) else RANKS


def rank_paragraphs(found: Sequence[RankTable], explained: str, style: str = "pipe") -> list[str]:
    """Return the paragraphs of the ranks as Markdown, or as text in another style of tabulate's."""
    if not found:
        return []
    markdown = style == "pipe"
    parts = [f"{'### ' * markdown}Ranks", explained]
    for one in found:
        rows: list[list[Any]] = [[escape.markdown(cell) for cell in row] for row in one.rows] if markdown else one.rows
        parts += [one.title, tabulate(rows, one.heads, style, disable_numparse=True)]
    return parts


def _rank(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{value:g}"
