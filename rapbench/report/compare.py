"""The comparison of several runs: one table, one figure, one page, ranks, and paired tests where the images are one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from rapbench.files import write_in_place_of
from rapbench.report import escape
from rapbench.report.canvas import figure_files
from rapbench.report.means import Measured, means
from rapbench.report.metric_plots import metrics_figure
from rapbench.report.metric_tables import metric_blocks
from rapbench.report.page.build import page
from rapbench.report.published import published_table1
from rapbench.report.tables import NAMES, latex_blocks, markdown_blocks, terminal_blocks, titled
from rapbench.results.merged import Place, joined, unpaired
from rapbench.results.ranks import PLACE, agreement
from rapbench.results.results import Results, paired_tests
from rapbench.results.run import Run
from rapbench.spreadsheet import csv_text

FILES = ("compare.csv", "compare.md", "compare.tex", "compare.png", "compare.pdf", "compare.html", "ranks.csv",
         "agreement.csv", "tests.csv")  # fmt: skip
RANKS = "Rank of each method by its mean over the steps that all have, 1 the best."
W = "W: Kendall's coefficient of concordance, how far the models agree on the order (1: wholly, 0: not at all)."


def write_comparison(folder: Path, results: Results, missing: Sequence[str] = ()) -> str:
    """Write the comparison of several runs into a folder and return its text for a terminal.

    Files: compare.csv (tidy: model, data, method, options, protocol, variant, metric, k, value, n, low, high), .md,
    .tex, .png, .pdf and .html; ranks.csv and, of several models, agreement.csv; tests.csv where a model's runs are of
    the same images. Those of an earlier comparison that are not written again go. missing: runs that should be there.
    """
    found = results.places
    whole = joined(found)
    with titled({label: title for place in found for label, title in place.run.titles.items()}):
        return _written(folder, results, whole, found, missing)


def _written(folder: Path, results: Results, whole: Run, found: Sequence[Place], missing: Sequence[str]) -> str:
    pairs = paired_tests([place for place in found if not place.unpaired])
    header = _header(results, found, bool(len(pairs)))
    header += [f"Missing, as they are not done: {', '.join(missing)}."] if missing else []
    plain = [escape.markdown(line) for line in header]
    with tqdm(total=3 + len(whole.tables), desc="comparison", delay=2, leave=False) as bar:
        measured = []
        for label in whole.tables:
            table = means(whole, label)
            bar.update()
            if len(table):
                measured.append(Measured(label, whole.protocols[label], table))
        blocks = [block for one in measured for block in metric_blocks(one.means, one.protocol, one.info)]
        ranked = results.ranks()
        agreed = agreement(ranked)
        bar.update()
        files: dict[str, str | bytes] = {
            "compare.csv": csv_text(results.table().drop(columns="better")),
            "compare.md": "\n\n".join([*plain, *markdown_blocks(blocks), *_ranks(ranked, agreed)]) + "\n",
            "compare.tex": latex_blocks(blocks, header, header[:1]),
            "ranks.csv": csv_text(ranked),
        }
        files |= {name: csv_text(table) for name, table in (("agreement.csv", agreed), ("tests.csv", pairs))
                  if len(table)}  # fmt: skip
        title = header[0] if len(measured) > 1 else f"{measured[0].protocol}: {header[0][0].lower()}{header[0][1:]}"
        files |= figure_files(metrics_figure(measured, title), "compare")
        bar.update()
        files["compare.html"] = _page(header, measured)
    write_in_place_of(folder, files, [folder / name for name in FILES])
    text = "\n".join([*header, "", terminal_blocks(blocks), *_ranks(ranked, agreed, "simple")])
    return "\n".join(escape.visible(line) for line in text.split("\n"))


def _header(results: Results, found: Sequence[Place], tested: bool) -> list[str]:
    """Say what is compared, which methods are tested in pairs, and whether the models see the same images."""
    models = list(dict.fromkeys(run.model for run in results.runs))
    header = [f"Comparison of {len(results.runs)} runs: {', '.join(models)}."]
    for place in found:
        if place.unpaired:
            where = f" of {place.run.model} on {place.run.data}" if len(found) > 1 else ""
            header.append(f"No paired tests{where}: {place.unpaired}.")
    if tested:
        header.append("Tests are paired, on the same images; of methods of the same model.")
    elif len(header) == 1:
        header.append("No paired tests: there are no two methods of one model.")
    header += [f"Could not be used on {run.model}: {', '.join(run.about['refused'])}."
               for run in results.runs if run.about.get("refused")]  # fmt: skip
    if len(found) > 1 and (apart := unpaired([place.run for place in found])):
        header.append(f"Between models or data sets compare with care: {apart}.")
    return header


def _ranks(ranked: pd.DataFrame, agreed: pd.DataFrame, style: str = "pipe") -> list[str]:
    """Return the paragraphs of the ranks: a row a method, a column a model and metric; below, how far models agree."""
    if ranked.empty:
        return []
    models = list(dict.fromkeys(ranked["model"]))
    many = len(models) > 1
    said = f"{RANKS} {W}" if len(agreed) else RANKS
    parts = [f"{'### ' if style == 'pipe' else ''}Ranks", said]
    for place, part in ranked.groupby(PLACE, sort=False):
        wide = part.pivot(index="method", columns="model", values="rank")
        known = agreed[(agreed[PLACE] == list(place)).all(axis=1)].set_index("method") if many else agreed
        rows = []
        for method in wide.mean(axis=1).sort_values(kind="stable").index:
            row = [NAMES.get(method, method), *(_rank(wide.loc[method].get(model)) for model in models)]
            if len(known):
                row.append(_rank(known["mean_rank"].get(method)))
            rows.append([escape.markdown(cell) for cell in row] if style == "pipe" else row)
        heads = ["method", *models, *(["mean"] if len(known) else [])]
        name = " · ".join(str(word) for word in place[1:] if word)
        note = (
            f" W = {known['w'].iloc[0]:.2f}, p = {known['p'].iloc[0]:.3g}, {len(models)} models." if len(known) else ""
        )
        parts += [f"{name}.{note}", tabulate(rows, heads, style, disable_numparse=True)]
    return parts


def _rank(value: Any) -> str:
    return "" if value is None or pd.isna(value) else f"{value:g}"


def _page(header: Sequence[str], measured: Sequence[Measured]) -> str:
    nothing: Mapping[str, Any] = dict.fromkeys(("table", "paper", "pairs", "verdict", "distance", "aopc", "images",
                                                "gallery"))  # fmt: skip
    return page("Comparison", list(header), published=published_table1()[:0], provenance=None, why="", remarks={},
                distance_remarks={}, aside="", others=measured, **nothing)  # fmt: skip
