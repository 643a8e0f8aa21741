"""Tables laid out in Markdown, LaTeX and for a terminal, whatever their numbers are."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd
from tabulate import tabulate

from rapbench.report import escape
from rapbench.report.escape import LATEX
from rapbench.results.display import NAMES, PAPER

LATEX_NAMES = {
    "lrp_a1b0": r"LRP-$\alpha_1\beta_0$",
    "lrp_a2b1": r"LRP-$\alpha_2\beta_1$",
    PAPER: rf"\quad {PAPER}",
}
MINUS = str.maketrans({"-": "$-$"})
Notes = dict[str, list[str]]  # by sign


class Block(NamedTuple):
    """One table, laid out. rows: a method's name, or PAPER, and its cell for each of `ks`. head: what `ks` are."""

    title: str
    caption: str
    ks: list[str]
    rows: list[tuple[str, list[str]]]
    notes: list[str]
    head: str = "K"


def markdown_blocks(blocks: list[Block]) -> list[str]:
    """Return the paragraphs of blocks in Markdown."""
    parts = []
    for block in blocks:
        rows = [[markdown_name(name), *cells] for name, cells in block.rows]
        around = [f"### {escape.markdown(block.title)}", *map(escape.markdown, (block.caption, *block.notes))]
        parts += [*around[:2], in_columns(rows, block.ks, "pipe", block.head), *around[2:]]
    return parts


def terminal_blocks(blocks: list[Block]) -> str:
    """Return blocks for a terminal."""
    parts = []
    for block in blocks:
        rows = [[NAMES.get(name, name), *cells] for name, cells in block.rows]
        shown = in_columns(rows, block.ks, "simple", block.head)
        parts.append("\n".join([block.title, block.caption, shown, *block.notes]))
    return "\n\n".join(parts) + "\n"


def latex_cell(cell: str) -> str:
    """Return a cell's text in LaTeX."""
    return cell.translate(LATEX | MINUS)


def latex_blocks(
    blocks: list[Block], header: Sequence[str], caption: Sequence[str], cell: Callable[[str], str] = latex_cell
) -> str:
    """Return blocks in LaTeX, one table environment each, to be included.

    header: sentences on the run, as comments. caption: those of them that are for print. cell: a cell's text to its
    LaTeX.
    """
    lines = [r"% Needs \usepackage{booktabs}.", *(f"% {' '.join(line.split())}" for line in header)]
    for block in blocks:
        printed = " ".join([*caption, f"{block.title}.", block.caption, *block.notes])
        head = "$K$" if block.head == "K" else escape.latex(block.head)
        rows = []
        for name, cells in block.rows:
            label = LATEX_NAMES.get(name) or escape.latex(NAMES.get(name, name))
            rows.append(" & ".join([label, *map(cell, cells)]) + r" \\")
        lines += [
            "",
            r"\begin{table}",
            r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape.latex(printed)}}}",
            rf"\begin{{tabular}}{{l{'r' * len(block.ks)}}}",
            r"\toprule",
            " & ".join([head, *map(escape.latex, block.ks)]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def markdown_name(method: str) -> str:
    """Return a method's name as Markdown tables show it."""
    return escape.markdown(NAMES.get(method, method))


def image_counts(n: pd.Series) -> str:
    """Say on how many images the cells rest."""
    low, high = n.min(), n.max()
    if low != high:
        return f"{low} to {high} images, not the same in each cell"
    return f"{high} image{'' if high == 1 else 's'}"


def in_columns(rows: list[list[str]], ks: list[str], style: str, head: str = "K") -> str:
    """Return rows, a name and its cells each, as a table in one of tabulate's styles."""
    align = ["left"] + ["right"] * len(ks)
    return tabulate(rows, headers=[head, *ks], tablefmt=style, disable_numparse=True, colalign=align)
