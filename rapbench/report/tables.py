"""Per-image results to the paper's Table I: the numbers, and their layout in Markdown, LaTeX and the terminal."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from rapbench.core.errors import RapbenchError
from rapbench.report import escape
from rapbench.report.escape import LATEX
from rapbench.report.statistics import bootstrap_means, wilson
from rapbench.results.display import DECIMALS, METRIC_NAMES, MISSING, NAMES, PAPER, ordered

KEYS = ["sign", "method", "metric", "perturbation", "k"]
CELL = ["sign", "method", "perturbation", "k"]

LATEX_NAMES = {
    "lrp_a1b0": r"LRP-$\alpha_1\beta_0$",
    "lrp_a2b1": r"LRP-$\alpha_2\beta_1$",
    PAPER: rf"\quad {PAPER}",
}


MINUS = str.maketrans({"-": "$-$"})


def table1(images: pd.DataFrame) -> pd.DataFrame:
    """Average per-image results into Table I: sign, method, metric, perturbation, k, value, n, low, high, in its order.

    images: a row for each image, method, sign, perturbation and k, with `correct` and `logit`. Accuracy is in per cent,
    score the mean logit of the label; a logit that is not a number makes its mean one too. n: images. low, high: the
    95 % interval, Wilson's for accuracy, the bootstrap over images for scores (NaN where one image is all). Raises
    RapbenchError where an image is in a cell twice.
    """
    refuse_twice(images, CELL)
    values = images.assign(accuracy=100.0 * images["correct"], score=images["logit"].astype(float)).melt(
        id_vars=["sign", "method", "perturbation", "k"], value_vars=["accuracy", "score"], var_name="metric"
    )
    # Sorted before they are summed, so that the order of the images cannot change the last digit.
    means = values.groupby(KEYS, sort=False)["value"].agg(value=lambda group: np.sort(group).mean(), n="size")
    cells = images.groupby(CELL, sort=False)["correct"].agg(["sum", "size"])
    ends = {(*cell, "accuracy"): wilson(*counts) for cell, counts in zip(cells.index, cells.to_numpy(), strict=True)}
    ends |= {(*cell, "score"): found for cell, found in bootstrapped(images, CELL, "logit").items()}
    table = means.reset_index()
    found = [ends[key] for key in table[[*CELL, "metric"]].itertuples(index=False, name=None)]
    table[["low", "high"]] = np.where(np.isfinite(table[["value"]]), found, np.nan)
    return _in_order(table)


def distance_table(distances: pd.DataFrame, metric: str = "distance") -> pd.DataFrame:
    """Average per-image distances D_K: sign, method, metric, k, mean, std, n, low, high, as Table I's order.

    metric: `distance`, or `squared_distance` as equation 12 is printed. Images without a pixel of the sign (distance
    NaN) do not count; std is the sample's (n - 1). low, high: the 95 % interval of the mean, by the bootstrap over
    images. Raises RapbenchError where an image is there twice.
    """
    refuse_twice(distances, ["sign", "method", "k"])
    cell = ["sign", "method", "k"]
    means = distances.groupby(cell, sort=False)["distance"].agg(["mean", "std", "count"])
    table = means.rename(columns={"count": "n"}).reset_index()
    ends = bootstrapped(distances, cell, "distance")
    nothing = (np.nan, np.nan)
    table[["low", "high"]] = [ends.get(key, nothing) for key in table[cell].itertuples(index=False, name=None)]
    table.insert(2, "metric", metric)
    return _in_order(table)


def refuse_twice(frame: pd.DataFrame, cell: list[str]) -> None:
    """Raise RapbenchError where a cell holds an image twice: its mean would be of another set of images."""
    if (twice := frame.duplicated([*cell, "image"])).any():
        first = frame[twice].iloc[0]
        place = ", ".join(str(first[key]) for key in cell)
        raise RapbenchError(f"the results hold {first['image']} twice ({place}); run again")


def by_image(frame: pd.DataFrame, cell: list[str], value: str) -> pd.DataFrame:
    """Return a value of each image (a row, by name) in each cell (a column); NaN where an image is not in a cell."""
    columns = cell if len(cell) > 1 else cell[0]
    return frame.pivot(index="image", columns=columns, values=value).astype(float)


def bootstrapped(frame: pd.DataFrame, cell: list[str], value: str) -> dict[tuple, tuple[float, float]]:
    """Return the interval of each cell's mean. Cells of the same images see the same draws."""
    wide = by_image(frame, cell, value)
    ends: dict[tuple, tuple[float, float]] = {}
    there = wide.notna()
    for pattern, columns in there.T.groupby(there.T.apply(lambda row: row.to_numpy().tobytes(), axis=1)):
        chosen = wide[columns.index][np.frombuffer(pattern, dtype=bool)]
        ends |= zip(columns.index, zip(*bootstrap_means(chosen.to_numpy()), strict=True), strict=True)
    return ends


def markdown(table: pd.DataFrame, published: pd.DataFrame, header: list[str], notes: "Notes | None" = None) -> str:
    """Lay out `table1`'s result beside the paper's numbers; header: sentences that go on top, a paragraph each.

    notes: further ones below each sign's tables.
    """
    return "\n\n".join([*header, *markdown_blocks(_blocks(table, published, notes))]) + "\n"


def markdown_blocks(blocks: "list[Block]") -> list[str]:
    """Return the paragraphs of blocks in Markdown."""
    parts = []
    for block in blocks:
        rows = [[markdown_name(name), *cells] for name, cells in block.rows]
        around = [f"### {escape.markdown(block.title)}", *map(escape.markdown, (block.caption, *block.notes))]
        parts += [*around[:2], _tabulate(rows, block.ks, "pipe", block.head), *around[2:]]
    return parts


def markdown_name(method: str) -> str:
    """Return a method's name as Markdown tables show it."""
    return escape.markdown(NAMES.get(method, method))


def terminal(table: pd.DataFrame, published: pd.DataFrame, notes: "Notes | None" = None) -> str:
    """Lay out `table1`'s result beside the paper's numbers, for a terminal."""
    return terminal_blocks(_blocks(table, published, notes))


def terminal_blocks(blocks: "list[Block]") -> str:
    """Return blocks for a terminal."""
    parts = []
    for block in blocks:
        rows = [[NAMES.get(name, name), *cells] for name, cells in block.rows]
        shown = _tabulate(rows, block.ks, "simple", block.head)
        parts.append("\n".join([block.title, block.caption, shown, *block.notes]))
    return "\n\n".join(parts) + "\n"


def latex(
    table: pd.DataFrame,
    published: pd.DataFrame,
    header: list[str],
    caption: list[str],
    notes: "Notes | None" = None,
) -> str:
    """Lay out `table1`'s result beside the paper's numbers, one table environment a block, to be included."""
    blocks = _blocks(table, published, notes)
    return latex_blocks(blocks, header, caption)


def latex_cell(cell: str) -> str:
    """Return a cell's text in LaTeX."""
    return cell.translate(LATEX | MINUS)


def latex_blocks(
    blocks: "list[Block]", header: Sequence[str], caption: Sequence[str], cell: Callable[[str], str] = latex_cell
) -> str:
    """Return blocks in LaTeX, one table environment each, to be included.

    header: sentences on the run, as comments. caption: those of them that are for print. cell: a cell's text to its
    LaTeX.
    """
    lines = [r"% Needs \usepackage{booktabs}.", *(f"% {' '.join(line.split())}" for line in header)]
    for block in blocks:
        printed = " ".join([*caption, f"{block.title}.", block.caption, *block.notes])
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
            " & ".join(["$K$", *block.ks]) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def distance_terminal(table: pd.DataFrame, notes: "Notes | None" = None) -> str:
    """Lay out `distance_table`'s result for a terminal: mean ± standard error, one block a sign."""
    parts = []
    for sign in ordered("sign", table["sign"]):
        part = table[table["sign"] == sign]
        ks = ordered("k", part["k"])
        cells = {
            (method, k): (f"{mean:.2f}" if n else MISSING) + (f" ± {std / math.sqrt(n):.2f}" if n > 1 else "")
            for method, k, mean, std, n in part[["method", "k", "mean", "std", "n"]].itertuples(index=False)
        }
        methods = ordered("method", part["method"])
        rows = [[NAMES.get(method, method), *(cells.get((method, k), "") for k in ks)] for method in methods]
        title = f"{sign.capitalize()} attributions: D_K, {METRIC_NAMES[part['metric'].iloc[0]]}"
        caption = f"Cells: mean ± standard error; {counts(part['n'])}."
        parts.append("\n".join([title, caption, _tabulate(rows, ks, "simple"), *(notes or {}).get(sign, [])]))
    return "\n\n".join(parts) + "\n"


class Block(NamedTuple):
    """One table, laid out. rows: a method's name, or PAPER, and its cell for each of `ks`. head: what `ks` are."""

    title: str
    caption: str
    ks: list[str]
    rows: list[tuple[str, list[str]]]
    notes: list[str]
    head: str = "K"


Notes = dict[str, list[str]]  # by sign


def _blocks(table: pd.DataFrame, published: pd.DataFrame, notes_of: Notes | None) -> list[Block]:
    """Lay out each sign and metric: below each of our rows the paper's own, where it has one for a K of ours."""
    ours = table.set_index(KEYS)["value"].to_dict()
    paper = published.set_index(KEYS)["value"].to_dict()
    notes = published[published["note"] != ""].set_index(KEYS)["note"].to_dict()
    perturbations = ordered("perturbation", table["perturbation"])
    first, *others = perturbations
    what = f"Cells: {first} ({', '.join(others)})" if others else f"Perturbation: {first} only"
    blocks = []
    for sign in ordered("sign", table["sign"]):
        for metric in ordered("metric", table["metric"]):
            part = table[(table["sign"] == sign) & (table["metric"] == metric)]
            ks = ordered("k", part["k"])
            rows = []
            footnotes: dict[str, None] = {}
            for method in ordered("method", part["method"]):
                places = [[(sign, method, metric, perturbation, k) for perturbation in perturbations] for k in ks]
                rows.append((method, [_cell(place, ours, {}) for place in places]))
                printed = [_cell(place, paper, notes) for place in places]
                if any(printed):
                    rows.append((PAPER, printed))
                footnotes |= {f"† as printed; {notes[key]}.": None for place in places for key in place if key in notes}
            caption = f"{what}; {counts(part['n'])}."
            if any(name == PAPER for name, _ in rows):
                caption += f" Rows named {PAPER} show the paper's Table I, measured on 500 other images."
            title = f"{sign.capitalize()} attributions: {METRIC_NAMES.get(metric, metric)}"
            blocks.append(Block(title, caption, ks, rows, [*footnotes, *(notes_of or {}).get(sign, [])]))
    return blocks


def _cell(keys: Sequence[tuple[str, ...]], values: dict, notes: dict) -> str:
    """Return "removal (shuffling)" for one K, a key each; empty where neither is known."""
    numbers = []
    for key in keys:
        if key in notes:
            numbers.append(
                f"{values[key]:g}†"
            )  # as printed: rounding it to the metric's decimals would hide what is odd
        else:
            numbers.append(f"{values[key]:z.{DECIMALS[key[2]]}f}" if key in values else MISSING)
    if all(number == MISSING for number in numbers):
        return ""
    first, *others = numbers
    return f"{first} ({', '.join(others)})" if others else first


def counts(n: pd.Series) -> str:
    """Say on how many images the cells rest."""
    low, high = n.min(), n.max()
    if low != high:
        return f"{low} to {high} images, not the same in each cell"
    return f"{high} image{'' if high == 1 else 's'}"


def _tabulate(rows: list[list[str]], ks: list[str], style: str, head: str = "K") -> str:
    align = ["left"] + ["right"] * len(ks)
    return tabulate(rows, headers=[head, *ks], tablefmt=style, disable_numparse=True, colalign=align)


def _in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Sort rows by the paper's order of their keys, and put the key columns first."""
    keys = [key for key in KEYS if key in table]
    ranks = {key: {name: rank for rank, name in enumerate(ordered(key, table[key]))} for key in keys}
    table = table.sort_values(keys, key=lambda column: column.map(ranks[str(column.name)]), ignore_index=True)
    return table[keys + [column for column in table if column not in keys]]
