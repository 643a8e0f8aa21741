"""The comparison of several runs: one table, one figure, one page, ranks, and paired tests where the images are one."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from tqdm import tqdm

from rapbench.core.files import write_in_place_of
from rapbench.core.spreadsheet import csv_text
from rapbench.report import escape
from rapbench.report.canvas import figure_files
from rapbench.report.metric_files import paired_tests
from rapbench.report.metric_plots import metrics_figure
from rapbench.report.metric_tables import metric_blocks
from rapbench.report.page.build import page
from rapbench.report.rank_tables import rank_paragraphs, rank_tables, ranks_explained
from rapbench.report.ranking_part import Ranking, agreement_tables, ranking_blocks, ranking_figures
from rapbench.report.table_text import latex_blocks, markdown_blocks, terminal_blocks
from rapbench.report.verdict import markdown_verdict, no_verdict, terminal_verdict
from rapbench.results.display import sized, titled
from rapbench.results.merged import Place, called, unpaired
from rapbench.results.published import published_table1
from rapbench.results.ranks import agreement

if TYPE_CHECKING:
    from rapbench.api.results import Results

FILES = (
    *("compare.csv", "compare.md", "compare.tex", "compare.png", "compare.pdf", "compare.html"),
    *("ranks.csv", "agreement.csv", "verdict.csv", "tests.csv"),
    *("metric_agreement.csv", "concordance.csv", "informative.csv"),
    *("ranks.png", "ranks.pdf", "metric_agreement.png", "metric_agreement.pdf"),
)


def write_comparison(folder: Path, results: "Results", missing: Sequence[str] = ()) -> str:
    """Write the comparison of several runs into a folder and return its text for a terminal.

    Files: compare.csv (tidy: model, data, method, options, protocol, variant, metric, k, value, n, low, high), .md,
    .tex, .png, .pdf and .html; ranks.csv and, of several models, agreement.csv; verdict.csv against the controls;
    tests.csv where a model's runs are of the same images. Those of an earlier comparison that are not written again go.
    missing: runs that should be there.
    """
    titles = {label: title for place in results.places for label, title in place.run.titles.items()}
    with titled(titles), sized(results.pixels):
        return _written(folder, results, missing)


def _written(folder: Path, results: "Results", missing: Sequence[str]) -> str:
    found = results.places
    pairs = paired_tests([place for place in found if not place.unpaired])
    header = _header(results, found, bool(len(pairs)))
    header += [f"Missing, because they are not finished: {', '.join(missing)}."] if missing else []
    plain = [escape.markdown(line) for line in header]
    with tqdm(total=5, desc="comparison", delay=2, leave=False) as bar:
        measured = results.measured()
        bar.update()
        blocks = [block for one in measured for block in metric_blocks(one.means, one.protocol, one.info)]
        verdict = results.verdict()
        judged = _renamed(verdict, found)
        controls = {mine[own] for place, mine in zip(found, called(found), strict=True)
                    for own, method in place.run.methods.items() if method.control}  # fmt: skip
        why = no_verdict(pd.concat(one.means for one in measured), controls)
        bar.update()
        rankings = [Ranking.of(place.run, paired=not place.unpaired) for place in found]
        ranked = pd.concat([one.ranks for one in rankings], ignore_index=True)
        agreed = agreement(ranked)
        told = [one for one in rankings if one.shown]
        alone = told[0] if told and len(rankings) == 1 else None
        tables = ranking_blocks(alone) if alone else []
        ranks = [] if alone else rank_tables(ranked, agreed)
        explained = " ".join([ranks_explained(agreed), *(_agreement(told) if not alone else [])])
        findings = [] if alone else _findings(told)
        bar.update()
        above = [*plain, markdown_verdict(judged, why)]
        files: dict[str, str | bytes] = {
            "compare.csv": csv_text(results.table().drop(columns="better")),
            "compare.md": "\n\n".join(
                [
                    *above,
                    *markdown_blocks([*blocks, *tables]),
                    *rank_paragraphs(ranks, escape.markdown(explained)),
                    *map(escape.markdown, findings),
                ]
            )
            + "\n",
            "compare.tex": latex_blocks(blocks, header, header[:1]),
            "ranks.csv": csv_text(ranked),
        }
        files |= agreement_tables(told)
        others = (("agreement.csv", agreed), ("verdict.csv", verdict), ("tests.csv", pairs))
        files |= {name: csv_text(table) for name, table in others if len(table)}
        title = header[0] if len(measured) > 1 else f"{measured[0].protocol}: {header[0][0].lower()}{header[0][1:]}"
        files |= figure_files(metrics_figure(measured, title), "compare")
        if alone:
            files |= ranking_figures(alone, header[0])
        bar.update()
        shown: dict[str, Any] = dict.fromkeys(("table", "paper", "distance", "aopc", "images", "gallery"))
        shown |= {"pairs": _renamed(pairs, found), "verdict": judged, "why": why, "ranking": alone}
        files["compare.html"] = page(
            "Comparison", header, published=published_table1()[:0], provenance=None, remarks={}, distance_remarks={},
            aside="", others=measured, ranks=ranks, explained=explained, **shown,
        )  # fmt: skip
        bar.update()
    write_in_place_of(folder, files, [folder / name for name in FILES])
    text = "\n".join([*header, "", terminal_blocks([*blocks, *tables]), terminal_verdict(judged) or f"{why}\n",
                      *rank_paragraphs(ranks, explained, "simple"), *findings])  # fmt: skip
    return "\n".join(escape.visible(line) for line in text.split("\n"))


def _agreement(rankings: Sequence[Ranking]) -> list[str]:
    """Say of each model how far the metrics agree."""
    return [f"{_place(one)}: {' '.join(one.agreement)}" for one in rankings]


def _findings(rankings: Sequence[Ranking]) -> list[str]:
    """Say of each model which metrics tell nothing."""
    return [f"{_place(one)}: {' '.join(one.findings)}" for one in rankings if one.findings]


def _place(one: Ranking) -> str:
    return " on ".join(one.ranks[["model", "data"]].iloc[0])


def _renamed(table: pd.DataFrame, among: Sequence[Place]) -> pd.DataFrame:
    """Return verdicts or tests of all places in the columns that reports lay out, methods named as among all."""
    names = {(place.run.model, place.run.data, own): name for place, mine in zip(among, called(among), strict=True)
             for own, name in mine.items()}  # fmt: skip
    table = table.rename(columns={"variant": "sign", "protocol": "perturbation"})
    for column in ("method", "other"):
        if column in table:
            places = zip(table["model"], table["data"], table[column], strict=True)
            table[column] = [names[place] for place in places]
    return table


def _header(results: "Results", found: Sequence[Place], tested: bool) -> list[str]:
    """Say what is compared, which methods are tested in pairs, and whether the models see the same images."""
    models = list(dict.fromkeys(run.model for run in results.runs))
    header = [f"Comparison of {len(results.runs)} runs: {', '.join(models)}."]
    for place in found:
        if place.unpaired:
            where = f" of {place.run.model} on {place.run.data}" if len(found) > 1 else ""
            header.append(f"No paired tests{where}: {place.unpaired}.")
    if tested:
        header.append("Tests are paired over images and compare methods of the same model.")
    elif len(header) == 1:
        header.append("No paired tests: there are no two methods of one model.")
    header += [f"Could not be used on {run.model}: {', '.join(run.about['refused'])}."
               for run in results.runs if run.about.get("refused")]  # fmt: skip
    if len(found) > 1 and (apart := unpaired([place.run for place in found])):
        header.append(f"Compare models or data sets with care: {apart}.")
    return header
