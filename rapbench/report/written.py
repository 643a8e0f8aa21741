"""The files of a report, made from a run's per-image results and written together."""

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from rapbench.core.files import write_in_place_of
from rapbench.core.spreadsheet import csv_text
from rapbench.report import FILES, escape, plots, tables
from rapbench.report.about import About
from rapbench.report.canvas import figure_files
from rapbench.report.intervals import intervals_latex, intervals_markdown
from rapbench.report.metric_files import stale, told
from rapbench.report.page.build import page
from rapbench.report.pairs import pair_tests
from rapbench.report.paper import beside_paper, markdown_paper
from rapbench.report.region_curves import region_curves
from rapbench.report.regions import aopc, aopc_blocks, by_cell, drop_curve
from rapbench.report.remarks import clean_remark, exhausted_remarks
from rapbench.report.verdict import markdown_verdict, nothing, terminal_verdict, verdicts
from rapbench.results.display import titled
from rapbench.results.layouts import DISTANCE, PERTURBATION, REGIONS, distance_metric, laid_out
from rapbench.results.published import published_table1
from rapbench.results.run import Run


def written(folder: Path, run: Run, header: list[str], about: About | None) -> str:
    """Write a run's report, as `write_report` says."""
    with titled(run.titles):
        return _written(folder, run, header, about)


def _written(folder: Path, run: Run, header: list[str], about: About | None) -> str:
    images, distances, regions = (laid_out(run, layout) for layout in (PERTURBATION, DISTANCE, REGIONS))
    provenance = dict(run.about)
    about = about or About.of(provenance)
    title = header[0] if header else ""
    caption = list(about.caption)
    if not images.empty and (clean := clean_remark(images)):
        header, caption = [*header, clean], [*caption, clean]
    plain = [escape.markdown(line) for line in header]
    texts = ["\n".join(header) + "\n"] if header else []
    files: dict[str, str | bytes] = {}
    published = about.paper.of(published_table1())
    shown: dict[str, Any] = dict.fromkeys(("table", "paper", "pairs", "verdict", "distance", "aopc", "images"))
    shown |= {"why": "", "remarks": {}, "distance_remarks": {}, "aside": ""}
    replaced = [] if regions.empty else by_cell(regions)
    judged, tested = [], []
    work = 8 + 2 * len(replaced) + len(run.protocols)
    with tqdm(total=work, desc="report", delay=2, leave=False) as bar:  # of seconds: most reports need none

        def done(result: Any) -> Any:
            bar.update()
            return result

        if not images.empty:
            table, pairs = (done(of(images)) for of in (tables.table1, pair_tests))
            verdict, why = done(verdicts(images, about.controls)), nothing(images, about.controls)
            judged, tested = [verdict], [pairs]
            cells, remarks = beside_paper(table, published), exhausted_remarks(images)
            files["table1.csv"] = csv_text(table)
            if not cells.empty:
                files["paper.csv"] = csv_text(cells)
            beside = [text for text in [about.paper.reason, markdown_paper(cells)] if text]
            above = [*plain, markdown_verdict(verdict, why), *beside]
            files["table1.md"] = tables.markdown(table, published, above, remarks)
            files["table1.tex"] = tables.latex(table, published, header, caption, remarks)
            files["intervals.md"] = intervals_markdown(table, plain)
            files["intervals.tex"] = done(intervals_latex(table, header, caption))
            named = f"{title} {tables.counts(table['n'])}"
            files |= done(figure_files(plots.curves(table, named), "curves"))
            texts.append(tables.terminal(table, published, remarks))
            shown |= {"table": table, "paper": cells, "images": images, "remarks": remarks}
            shown |= {"why": why, "aside": about.paper.reason}
        if not distances.empty:
            means = done(tables.distance_table(distances, distance_metric(run)))
            files["distance.csv"] = csv_text(means)
            named = f"{title} {tables.counts(means['n'])}"
            files |= done(figure_files(plots.distance_curves(means, named), "distance"))
            remarks = exhausted_remarks(distances)
            texts.append(tables.distance_terminal(means, remarks))
            shown |= {"distance": means, "distance_remarks": remarks}
        if replaced:
            drops, areas = (
                pd.concat([done(of(cell)) for cell in replaced], ignore_index=True) for of in (drop_curve, aopc)
            )
            files["regions.csv"] = csv_text(drops)
            files["aopc.csv"] = csv_text(areas)
            files["aopc.md"] = "\n\n".join([*plain, *tables.markdown_blocks(aopc_blocks(areas))]) + "\n"
            named = f"{title} {tables.counts(areas['n'])}"
            files |= figure_files(region_curves(drops, named), "regions")
            texts.append(tables.terminal_blocks(aopc_blocks(areas)))
            shown["aopc"] = areas
        others = []
        for one in told(run, header, plain, caption):
            files |= done(one.files)
            texts.append(one.text)
            others.append(one.measured)
            judged.append(one.verdict)
            tested.append(one.pairs)
        if judged:
            shown |= {"verdict": pd.concat(judged, ignore_index=True), "pairs": pd.concat(tested, ignore_index=True)}
            shown["why"] = shown["why"] or nothing(pd.concat(one.means for one in others), about.controls)
            files["verdict.csv"], files["tests.csv"] = csv_text(shown["verdict"]), csv_text(shown["pairs"])
            texts.append(terminal_verdict(shown["verdict"]) or f"{shown['why']}\n")
            texts += [f"{about.paper.reason}\n"] if about.paper.reason else []
        if files:
            name = title.partition(":")[0] or folder.resolve().name
            files["report.html"] = done(
                page(
                    name,
                    header,
                    published=published,
                    gallery=run.gallery,
                    provenance=provenance,
                    others=others,
                    **shown,
                )
            )
    write_in_place_of(folder, files, [*(folder / name for name in FILES), *stale(folder, files)])
    return "\n".join(escape.visible(line) for line in "\n".join(texts).split("\n"))
