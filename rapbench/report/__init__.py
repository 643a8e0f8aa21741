"""Reports: per-image results to tables, figures, tests and a page. Nothing here needs a model."""

from pathlib import Path

import pandas as pd

from rapbench.files import write_whole
from rapbench.report import plots, tables
from rapbench.report.intervals import intervals_latex, intervals_markdown
from rapbench.report.pairs import pair_tests
from rapbench.report.paper import beside_paper, markdown_paper
from rapbench.report.published import published_table1
from rapbench.report.verdict import markdown_verdict, terminal_verdict, verdicts


def write_report(folder: Path, images: pd.DataFrame | None, distances: pd.DataFrame | None, header: list[str]) -> str:
    """Write the tables and figures of a run into `folder` and return their text for a terminal.

    images, distances: per-image results as `tables.table1` and `tables.distance_table` take them; what is None or empty
    is left out. header: sentences on what was run. Each file appears whole or not at all.
    """
    title = header[0] if header else ""
    texts = ["\n".join(header) + "\n"] if header else []
    files: dict[str, str | bytes] = {}
    if images is not None and not images.empty:
        table, published = tables.table1(images), published_table1()
        verdict, cells = verdicts(images), beside_paper(table, published)
        files["table1.csv"] = table.to_csv(index=False)
        files["tests.csv"] = pair_tests(images).to_csv(index=False)
        files["verdict.csv"] = verdict.to_csv(index=False)
        files["paper.csv"] = cells.to_csv(index=False)
        beside = [text for text in [markdown_paper(cells)] if text]
        files["table1.md"] = tables.markdown(table, published, [*header, markdown_verdict(verdict), *beside])
        files["table1.tex"] = tables.latex(table, published, header)
        files["intervals.md"] = intervals_markdown(table, header)
        files["intervals.tex"] = intervals_latex(table, header)
        files["curves.png"] = plots.curves(table, f"{title} {tables.counts(table['n'])}")
        texts += [tables.terminal(table, published), terminal_verdict(verdict)]
    if distances is not None and not distances.empty:
        means = tables.distance_table(distances)
        files["distance.csv"] = means.to_csv(index=False)
        files["distance.png"] = plots.distance_curves(means, f"{title} {tables.counts(means['n'])}")
        texts.append(tables.distance_terminal(means))
    for name, content in files.items():
        write_whole(folder / name, content.encode() if isinstance(content, str) else content)
    return "\n".join(texts)
