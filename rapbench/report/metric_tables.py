"""Any protocol's means laid out: a table for each variant and metric with steps, one for its single numbers."""

import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.report.table_text import Block, image_counts
from rapbench.results.display import MISSING, ordered
from rapbench.results.info import ProtocolInfo

MOST = 12  # steps in a table; the CSV has all


def metric_blocks(table: pd.DataFrame, protocol: str, info: ProtocolInfo) -> list[Block]:
    """Lay `means` of a protocol out for Markdown, LaTeX and the terminal; each cell with its interval."""
    stepped = table[table["k"] != ""]
    blocks = []
    for variant in dict.fromkeys(stepped["variant"]):
        for metric in info.shown:
            part = stepped[(stepped["variant"] == variant) & (stepped["metric"] == metric.name)]
            if len(part):
                blocks.append(_curve(part, metric_title(protocol, variant, metric), info.steps, metric))
    single = table[table["k"] == ""]
    for metric in info.shown:
        part = single[single["metric"] == metric.name]
        if len(part):
            blocks.append(_single(part, protocol, metric))
    return blocks


def metric_title(protocol: str, variant: str, metric: Metric) -> str:
    """Return what a metric of a protocol is called above a table."""
    place = f"{protocol}, {variant}" if variant else protocol
    return f"{place}: {metric.heading}"


def direction(metric: Metric, variant: str) -> str:
    """Say which value is the better one, in words; empty where neither is."""
    return f"{metric.better[variant]} is better" if variant in metric.better else ""


def shown_steps(ks: list[str]) -> list[str]:
    """Return up to MOST steps of a curve, evenly chosen, the first and the last among them."""
    if len(ks) <= MOST:
        return ks
    return [ks[round(place * (len(ks) - 1) / (MOST - 1))] for place in range(MOST)]


def cell_text(row: pd.Series, decimals: int) -> str:
    """Return a mean with its interval."""
    if not row["n"]:
        return MISSING
    value = f"{row['value']:z.{decimals}f}"
    return value if pd.isna(row["low"]) else f"{value} [{row['low']:z.{decimals}f}, {row['high']:z.{decimals}f}]"


def _curve(part: pd.DataFrame, title: str, steps: str, metric: Metric) -> Block:
    every = ordered("k", part["k"])
    ks = shown_steps(every)
    cells = {(row["method"], row["k"]): cell_text(row, metric.decimals) for _, row in part.iterrows()}
    rows = [(method, [cells.get((method, k), "") for k in ks]) for method in ordered("method", part["method"])]
    notes = [f"{len(ks)} of {len(every)} steps."] if len(ks) < len(every) else []
    return Block(title, _caption(part, metric, str(part["variant"].iloc[0])), ks, rows, notes, steps)


def _single(part: pd.DataFrame, protocol: str, metric: Metric) -> Block:
    variants = list(dict.fromkeys(part["variant"]))
    cells = {(row["method"], row["variant"]): cell_text(row, metric.decimals) for _, row in part.iterrows()}
    rows = [(method, [cells.get((method, variant), "") for variant in variants])
            for method in ordered("method", part["method"])]  # fmt: skip
    heads = [f"{variant or metric.name}" for variant in variants]
    said = dict.fromkeys(filter(None, (f"{variant}: {direction(metric, variant)}" if variant else direction(
        metric, variant) for variant in variants if direction(metric, variant))))  # fmt: skip
    caption = _caption(part, metric, None)
    return Block(f"{protocol}: {metric.heading}", "; ".join([caption.rstrip("."), *said]) + ".", heads, rows, [], "")


def _caption(part: pd.DataFrame, metric: Metric, variant: str | None) -> str:
    how = "Wilson's interval" if metric.kind == "share" else "by the bootstrap over images"
    known = f"value [95 % interval, {how}]" if part["low"].notna().any() else "value, without an interval"
    better = direction(metric, variant) if variant is not None else ""
    return "; ".join(filter(None, [f"Cells: {known}", better, image_counts(part["n"])])) + "."
