"""The page's tables, as its template takes them."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.report import paper as beside
from rapbench.report import verdict as judged
from rapbench.report.metric_tables import direction, shown_steps
from rapbench.report.page.words import interval, middle, number, options, p_value, records, signed, sortable
from rapbench.report.pairs import FAMILY
from rapbench.report.ranking_part import Ranking, metric_block, rank_blocks
from rapbench.report.regions import LEGEND, ORDER_NAMES, what
from rapbench.report.table_text import image_counts
from rapbench.results.display import DECIMALS, METRIC_NAMES, MISSING, NAMES, ordered
from rapbench.results.info import ProtocolInfo

VIEW = ["sign", "metric", "perturbation"]
KINDS = {judged.BETTER: "better", judged.WORSE: "worse", judged.NONE: "undecided", judged.MIXED: "mixed"}  # page.css


def view(
    name: str,
    place: tuple[str, ...],
    part: pd.DataFrame,
    paper: pd.DataFrame | None,
    colour: dict[str, str],
    remarks: Iterable[str] = (),
) -> dict[str, Any]:
    """Lay one table out: a row a method, a cell for each K with its interval, and the paper's value."""
    metric = part["metric"].iloc[0]
    decimals = DECIMALS.get(metric, 1)
    printed: dict[tuple[str, str], Any] = {}
    notes: dict[str, None] = {}
    if paper is not None:
        for row in records(paper[(paper[VIEW] == list(place)).all(axis=1)]):
            printed[row["method"], row["k"]] = row
            if row["note"]:
                notes[f"† as printed; {row['note']}."] = None
    ks = ordered("k", part["k"])
    ours = {(row["method"], row["k"]): row for row in records(part)}
    rows = []
    for method in ordered("method", part["method"]):
        cells = []
        for k in ks:
            cell: dict[str, Any] | None = None
            if found := ours.get((method, k)):
                cell = _cell(found, decimals, "nan" if found["n"] else MISSING)
                if theirs := printed.get((method, k)):
                    shown = f"{theirs['paper']:g}†" if theirs["note"] else number(theirs["paper"], decimals)
                    cell |= {"paper": shown, "inside": theirs["inside"]}
            cells.append(cell)
        rows.append({"name": NAMES.get(method, method), "colour": colour[method], "cells": cells})
    words = [METRIC_NAMES.get(word, word) for word in (place if len(place) > 1 else (*place, metric))]
    what = "value and 95 % interval" if part["low"].notna().any() else "value, without an interval"
    caption = f"{' · '.join(words)}: {what}; {image_counts(part['n'])}."
    if printed:
        caption += " Below: the paper's value (VGG-16)"
        coloured = any(row["inside"] in ("yes", "no") for row in printed.values())
        caption += ", green if it is in the interval, red if not." if coloured else "."
    return {"key": name, "ks": ks, "rows": rows, "caption": caption, "notes": [*notes, *remarks]}


def metric_view(
    key: str, part: pd.DataFrame, metric: Metric, info: ProtocolInfo, colour: dict[str, str]
) -> dict[str, Any]:
    """Lay a variant of any protocol's metric out as `view` does; of a long curve some of the steps."""
    every = ordered("k", part["k"])
    ks = shown_steps(every)
    ours = {(row["method"], row["k"]): row for row in records(part)}
    rows = []
    for method in ordered("method", part["method"]):
        found = [ours.get((method, k)) for k in ks]
        cells = [row and _cell(row, metric.decimals, MISSING) for row in found]
        rows.append({"name": NAMES.get(method, method), "colour": colour[method], "cells": cells})
    variant = str(part["variant"].iloc[0])
    words = filter(None, [variant, direction(metric, variant), image_counts(part["n"])])
    caption = f"{metric.heading}, and 95 % interval; {'; '.join(words)}."
    if len(ks) < len(every):
        caption += f" {len(ks)} of {len(every)} steps."
    heads = [metric.heading] if ks == [""] else [f"{info.steps} {ks[0]}", *ks[1:]]
    return {"key": key, "ks": heads, "rows": rows, "caption": caption}


def ranking(found: Ranking, colour: dict[str, str]) -> dict[str, Any]:
    """Lay the ranks by each metric out as `view` does, and the metrics as a table. numbers: its columns of these."""
    views = []
    for block in rank_blocks(found):
        rows = []
        for method, cells in block.rows:
            shown = [None if cell == MISSING else _rank(cell) for cell in cells]
            rows.append({"name": NAMES.get(method, method), "colour": colour[method], "cells": shown})
        views.append({"ks": block.ks, "rows": rows, "caption": f"{block.title}. {block.caption}"})
    return {
        "agreement": found.agreement,
        "findings": found.findings,
        "views": views,
        "metrics": metric_block(found),
        "numbers": (1, 4),
    }


def _rank(cell: str) -> dict[str, Any]:
    value, _, interval = cell.partition(" ")
    return {"value": value, "sort": value, "interval": interval, "title": "", "paper": "", "inside": ""}


def aopc(part: pd.DataFrame, colour: dict[str, str]) -> dict[str, Any]:
    """Lay AOPC of one perturbation out as `view` does: a row a method, a cell for each order with its interval."""
    orders = [order for order in ORDER_NAMES if order in set(part["order"])]
    ours = {(row["method"], row["order"]): row for row in records(part)}
    rows = []
    for method in ordered("method", part["method"]):
        found = [ours.get((method, order)) for order in orders]
        cells = [row and _cell(row, 3) for row in found]
        rows.append({"name": NAMES.get(method, method), "colour": colour[method], "cells": cells})
    caption = f"{part.iloc[0]['perturbation']}: AOPC of the {what(part)}, and 95 % interval; {image_counts(part['n'])}."
    return {"ks": [ORDER_NAMES[order] for order in orders], "rows": rows, "caption": caption, "notes": [LEGEND]}


def _cell(row: dict[str, Any], decimals: int, without: str = "") -> dict[str, Any]:
    """Lay a mean with its interval out. without: what stands there where it is no number."""
    return {"value": number(row["value"], decimals) or without, "sort": sortable(row["value"]),
            "interval": interval(row["low"], row["high"], decimals), "title": image_counts(pd.Series([row["n"]])),
            "paper": "", "inside": ""}  # fmt: skip


def verdict(verdict: pd.DataFrame, why: str, colour: dict[str, str]) -> dict[str, Any]:
    """Lay the verdict out: a card for each of its columns, and the table. why: what to say where it is empty."""
    columns = judged.findings(verdict)
    found = {tuple(row[key] for key in judged.KEYS): row for _, row in verdict.iterrows()}
    order = {name: str(rank) for rank, name in enumerate((judged.BETTER, judged.MIXED, judged.NONE, judged.WORSE))}
    rows = []
    for method in ordered("method", verdict["method"]):
        cells = []
        for column in columns:
            row = found.get((*column[:3], method))
            cells.append(None if row is None else {
                "kind": KINDS[row["verdict"]],
                "symbol": judged.SYMBOLS[row["verdict"]],
                "word": judged.words(row),
                "sort": order[row["verdict"]],
                "tested": [(metric, _tested(row, metric)) for metric in row["metrics"].split(" ")],
            })  # fmt: skip
        rows.append({"name": NAMES.get(method, method), "colour": colour[method], "cells": cells})
    cards = [
        {"heading": column.heading, "outcomes": [
            {"kind": KINDS[outcome], "symbol": judged.SYMBOLS[outcome], "word": outcome,
             "methods": judged.names_of(names)} for outcome, names in column.methods.items()]}
        for column in columns
    ]  # fmt: skip
    headings = [(judged.doing(*column[:2]), NAMES.get(column.control, column.control)) for column in columns]
    controls = judged.names_of(list(dict.fromkeys(column.control for column in columns)))
    return {"rows": rows, "headings": headings, "cards": cards, "legend": judged.LEGEND, "controls": controls,
            "caution": judged.caution(verdict), "why": why}  # fmt: skip


def _tested(row: pd.Series, metric: str) -> str:
    """Return a metric's gain and its corrected p, or that there is none."""
    if math.isnan(row[f"{metric}_p_holm"]):
        return "not tested (a value is NaN)"
    return f"{signed(row[f'{metric}_gain'], DECIMALS.get(metric, 3))}, p {p_value(row[f'{metric}_p_holm'])}"


def paper(cells: pd.DataFrame) -> dict[str, Any]:
    """Lay the comparison with the paper out: a sentence, totals, and every cell."""
    counted = beside.totals(cells)
    totals = [row | {"name": NAMES.get(row["method"], row["method"])} for row in records(counted)]
    rows = []
    for row in records(cells):
        decimals = DECIMALS[row["metric"]]
        paper = f"{row['paper']:g}†" if row["note"] else number(row["paper"], decimals)
        ends = [interval(row[f"{of}low"], row[f"{of}high"], decimals) for of in ("", "difference_")]
        rows.append(row | {
            "name": NAMES.get(row["method"], row["method"]),
            "metric": METRIC_NAMES[row["metric"]],
            "cells": [
                (row["k"], 1e9 if row["k"] == "all" else row["k"]),
                (number(row["value"], decimals), sortable(row["value"])),
                (ends[0], sortable(row["low"])),
                (paper, sortable(row["paper"])),
                (signed(row["difference"], decimals), sortable(row["difference"])),
                (ends[1], sortable(row["difference_low"])),
            ],
        })  # fmt: skip
    return {"sentence": beside.sentence(counted), "legend": beside.LEGEND, "totals": totals, "cells": rows}


def tests(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return what the table of pairs can be filtered by, and what its p is corrected over."""
    first = pairs.iloc[0]
    filters = {key: options(ordered(key, pairs[key]), str(first[key])) for key in VIEW}
    ks = ordered("k", pairs["k"])
    filters["K"] = options(ks, middle(ordered("k", pairs[pairs["sign"] == first["sign"]]["k"])))
    filters["method"] = options(ordered("method", [*pairs["method"], *pairs["other"]]))
    return {"filters": filters, "family": FAMILY}


def pair_rows(pairs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return each tested pair for the page's script: where it belongs, and the cells of its row, text and number."""
    rows = []
    for row in records(pairs):
        names = [[NAMES.get(row[name], row[name]), None] for name in ("method", "other")]
        shown = [(signed(row["difference"], DECIMALS.get(row["metric"], 3)), row["difference"])]
        shown += [(str(row[name]), row[name]) for name in ("higher", "lower", "n")]
        shown += [(p_value(row[name]), row[name]) for name in ("p", "p_holm")]
        known = [[text, None if math.isnan(value) else float(f"{value:.6g}")] for text, value in shown]
        rows.append({"at": [row[key] for key in [*VIEW, "k", "method", "other"]], "cells": [*names, *known]})
    return rows
