"""A comparison as Markdown: the cells that moved, and their images."""

from collections.abc import Sequence

import numpy as np
from tabulate import tabulate

from rapbench.drift.compare import Moved
from rapbench.report import escape

# Rows of a table; a pull request's comment has room for some 65,000 characters.
MOST = 40
METRICS = {"accuracy": ("accuracy (%)", 3), "score": ("mean logit", 4), "D_K": ("mean D_K", 4)}  # heading, digits
EACH = 3  # images of one cell
PLACE = ("method", "sign", "K", "protocol")


def markdown(moved: list[Moved], cells: int, baseline: str, how: str) -> str:
    """Return the report of a comparison. cells: compared in all. how: sentences on what was compared with what."""
    if not moved:
        return f"### No drift\n\nAll {cells} cells agree with `{baseline}`. {how}\n"
    head = f"### Drift: {len(moved)} of {cells} cells moved\n\nAgainst `{baseline}`. {how}\n"
    others = dict.fromkeys(name for one in moved for name in one.metrics if name not in METRICS)
    metrics = METRICS | {name: (f"mean {name}", 4) for name in others}
    rows = [
        (*_place(one), *(_arrow(*one.metrics[name], least) if name in one.metrics else ""
         for name, (_, least) in metrics.items()), f"{len(one.images)} of {one.count}")
        for one in moved
    ]  # fmt: skip
    images = [row for one in moved for row in _images(one)]
    parts = [
        head,
        _table(
            ["method", "sign", "K", "protocol", *(heading for heading, _ in metrics.values()), "images moved"], rows
        ),
        f"Images that moved, at most {EACH} per cell, the largest change first:\n",
        _table(["image", *PLACE, "predicted", "value", "pixels"], images),
    ]
    return "\n".join(parts)


def incomparable(found: list[str], baseline: str, source: str) -> str:
    """Return the report of two runs that cannot be compared."""
    return "\n".join(
        [f"### Not comparable\n\n{source} and `{baseline}`:\n", *(f"- {escape.markdown(line)}" for line in found), ""]
    )


def _place(moved: Moved) -> tuple[str, str, str, str]:
    method, protocol, sign, k = moved.cell
    return method, sign, k, protocol


def _images(moved: Moved) -> list[tuple[str, ...]]:
    before, after = moved.images["before"], moved.images["after"]
    known = [name for name in before if name not in ("selected", "predicted") and before[name].notna().any()]
    name = known[0] if known else "distance"
    size = (before[name] - after[name]).abs().fillna(np.inf)
    first = size.sort_values(ascending=False, kind="stable").index[:EACH]
    return [
        (str(image), *_place(moved), _change(before["predicted"][image], after["predicted"][image]),
         _arrow(before[name][image], after[name][image]),
         _change(before["selected"][image], after["selected"][image]))
        for image in first
    ]  # fmt: skip


def _arrow(before: float, after: float, least: int = 4) -> str:
    """Two numbers, with enough digits to be told apart; one when they are equal."""
    if before == after:
        return f"{before:.{least}g}"
    digits = next((d for d in range(least, 10) if f"{before:.{d}g}" != f"{after:.{d}g}"), 9)
    return f"{before:.{digits}g} → {after:.{digits}g}"


def _change(before: float, after: float) -> str:
    """Whole numbers: one when nothing changed, and none where there are none."""
    if np.isnan(before) and np.isnan(after):
        return ""
    shown = ["none" if np.isnan(value) else str(int(value)) for value in (before, after)]
    return shown[0] if shown[0] == shown[1] else " → ".join(shown)


def _table(headers: list[str], rows: Sequence[tuple[str, ...]]) -> str:
    cells = [[escape.markdown(cell) for cell in row] for row in rows[:MOST]]
    text = tabulate(cells, headers=headers, tablefmt="github", disable_numparse=True)
    return text + (f"\n\n... and {len(rows) - MOST} more.\n" if len(rows) > MOST else "\n")
