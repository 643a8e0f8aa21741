"""Table I's 95 % intervals, one table for each sign, metric and perturbation."""

import pandas as pd

from rapbench.report.table_text import Block, image_counts, latex_blocks, latex_cell, markdown_blocks
from rapbench.results.display import METRIC_NAMES, ordered

ENDS = {"accuracy": 0, "score": 1}  # decimals
HOW = {"accuracy": "Wilson's interval", "score": "by the bootstrap over images"}


def intervals_markdown(table: pd.DataFrame, header: list[str]) -> str:
    """Lay out `table1`'s result, each value with its interval; header: sentences on top, a paragraph each."""
    return "\n\n".join([*header, *markdown_blocks(_blocks(table))]) + "\n"


def intervals_latex(table: pd.DataFrame, header: list[str], caption: list[str]) -> str:
    """Lay out `table1`'s result, each interval below its value, one table environment a block, to be included."""
    return latex_blocks(_blocks(table), header, caption, stacked)


def _blocks(table: pd.DataFrame) -> list[Block]:
    blocks = []
    for sign in ordered("sign", table["sign"]):
        for metric in ordered("metric", table["metric"]):
            for perturbation in ordered("perturbation", table["perturbation"]):
                part = table[(table[["sign", "metric", "perturbation"]] == [sign, metric, perturbation]).all(axis=1)]
                if part.empty:
                    continue
                cells = {(row["method"], row["k"]): _cell(row, metric) for _, row in part.iterrows()}
                ks = ordered("k", part["k"])
                rows = [(method, [cells.get((method, k), "") for k in ks]) for method in ordered(
                    "method", part["method"])]  # fmt: skip
                title = f"{sign.capitalize()} attributions, {perturbation}: {METRIC_NAMES.get(metric, metric)}"
                known = part["low"].notna().any()
                cell = f"value [95 % interval, {HOW[metric]}]" if known else "value, without an interval"
                caption = f"Cells: {cell}; {image_counts(part['n'])}."
                blocks.append(Block(title, caption, ks, rows, []))
    return blocks


def _cell(row: pd.Series, metric: str) -> str:
    value = f"{row['value']:z.{1 + ENDS[metric]}f}"
    if pd.isna(row["low"]):
        return value
    low, high = (f"{row[end]:z.{ENDS[metric]}f}" for end in ("low", "high"))
    return f"{value} [{low}, {high}]"


def stacked(cell: str) -> str:
    """Return a cell in LaTeX, its interval below its value."""
    value, _, interval = latex_cell(cell).partition(" ")
    return rf"\shortstack[r]{{{value}\\\scriptsize {interval}}}" if interval else value
