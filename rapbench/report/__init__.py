"""Reports: per-image results to tables and figures. Nothing here needs a model."""

import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from rapbench.report import plots, tables
from rapbench.report.published import published_table1


def write_report(folder: Path, images: pd.DataFrame | None, distances: pd.DataFrame | None, header: list[str]) -> str:
    """Write the tables and figures of a run into `folder` and return their text for a terminal.

    images, distances: per-image results as `tables.table1` and `tables.distance_table` take them; what is None or empty
    is left out. header: sentences on what was run. Each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    title = header[0] if header else ""
    texts = ["\n".join(header) + "\n"] if header else []
    if images is not None and not images.empty:
        table, published = tables.table1(images), published_table1()
        _write(folder / "table1.csv", lambda path: table.to_csv(path, index=False))
        _write(folder / "table1.md", lambda path: path.write_text(tables.markdown(table, published, header), "utf-8"))
        _write(folder / "table1.tex", lambda path: path.write_text(tables.latex(table, published, header), "utf-8"))
        _write(folder / "curves.png", lambda path: plots.curves(table, path, title))
        texts.append(tables.terminal(table, published))
    if distances is not None and not distances.empty:
        means = tables.distance_table(distances)
        _write(folder / "distance.csv", lambda path: means.to_csv(path, index=False))
        _write(folder / "distance.png", lambda path: plots.distance_curves(means, path, title))
        texts.append(tables.distance_terminal(means))
    return "\n".join(texts)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a file of another name beside `path`, then rename it into place."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
