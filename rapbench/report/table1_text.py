"""Table I laid out beside the paper's own numbers, in Markdown, LaTeX and for a terminal."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from rapbench.report.table1 import KEYS
from rapbench.report.table_text import Block, Notes, image_counts, latex_blocks, markdown_blocks, terminal_blocks
from rapbench.results.display import DECIMALS, METRIC_NAMES, MISSING, NAMES, PAPER, ordered

Refused = Mapping[str, tuple[str, tuple[str, ...]]]  # by method: why it has no values, and its signs


def table1_markdown(
    table: pd.DataFrame,
    published: pd.DataFrame,
    header: list[str],
    notes: Notes | None = None,
    refused: Refused | None = None,
) -> str:
    """Lay out `table1`'s result beside the paper's numbers; header: sentences that go on top, a paragraph each.

    notes: further ones below each sign's tables. refused: methods that get a row without values, and a note.
    """
    return "\n\n".join([*header, *markdown_blocks(_blocks(table, published, notes, refused))]) + "\n"


def table1_terminal(
    table: pd.DataFrame, published: pd.DataFrame, notes: Notes | None = None, refused: Refused | None = None
) -> str:
    """Lay out `table1`'s result beside the paper's numbers, for a terminal."""
    return terminal_blocks(_blocks(table, published, notes, refused))


def table1_latex(
    table: pd.DataFrame,
    published: pd.DataFrame,
    header: list[str],
    caption: list[str],
    notes: Notes | None = None,
    refused: Refused | None = None,
) -> str:
    """Lay out `table1`'s result beside the paper's numbers, one table environment a block, to be included."""
    blocks = _blocks(table, published, notes, refused)
    return latex_blocks(blocks, header, caption)


def _blocks(
    table: pd.DataFrame, published: pd.DataFrame, notes_of: Notes | None, refused: Refused | None = None
) -> list[Block]:
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
            without = {name: why for name, (why, signs) in (refused or {}).items() if sign in signs}
            for method in ordered("method", [*part["method"], *without]):
                places = [[(sign, method, metric, perturbation, k) for perturbation in perturbations] for k in ks]
                cells = [MISSING] * len(ks) if method in without else [_cell(place, ours, {}) for place in places]
                rows.append((method, cells))
                printed = [_cell(place, paper, notes) for place in places]
                if any(printed):
                    rows.append((PAPER, printed))
                footnotes |= {f"† as printed; {notes[key]}.": None for place in places for key in place if key in notes}
            caption = f"{what}; {image_counts(part['n'])}."
            if any(name == PAPER for name, _ in rows):
                caption += f" Rows named {PAPER} show the paper's Table I, measured on 500 other images."
            title = f"{sign.capitalize()} attributions: {METRIC_NAMES.get(metric, metric)}"
            reasons = [f"{NAMES.get(name, name)} has no values: {why}." for name, why in without.items()]
            blocks.append(Block(title, caption, ks, rows, [*footnotes, *reasons, *(notes_of or {}).get(sign, [])]))
    return blocks


def _cell(keys: Sequence[tuple[str, ...]], values: dict[Hashable, Any], notes: dict[Hashable, Any]) -> str:
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
