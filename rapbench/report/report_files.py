"""The files of a report, made from a run's per-image results and written together."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from rapbench.core.files import write_in_place_of
from rapbench.core.spreadsheet import csv_text
from rapbench.report import FILES, escape
from rapbench.report.about import About
from rapbench.report.layout_parts import distance_part, regions_part, table1_part
from rapbench.report.metric_files import metric_parts, stale
from rapbench.report.page.build import page
from rapbench.report.part import Done, Head, Part
from rapbench.report.ranking_part import ranking_part
from rapbench.report.regions import by_cell
from rapbench.report.remarks import clean_remark
from rapbench.report.verdict import no_verdict, terminal_verdict
from rapbench.results.display import sized, titled
from rapbench.results.layouts import DISTANCE, PERTURBATION, REGIONS, distance_metric, laid_out
from rapbench.results.published import published_table1
from rapbench.results.run import Run

# Of `page`, what only some results have.
ABSENT: dict[str, Any] = dict.fromkeys(("table", "paper", "pairs", "verdict", "distance", "aopc", "images",
                                       "ranking")) | {
    "why": "", "remarks": {}, "distance_remarks": {}, "aside": ""}  # fmt: skip


def write_files(folder: Path, run: Run, header: list[str], about: About | None) -> str:
    """Write a run's report, as `write_report` says."""
    with titled(run.titles), sized(run.pixels):
        return _write(folder, run, header, about or About.of(run.about))


def _write(folder: Path, run: Run, header: list[str], about: About) -> str:
    images, distances, regions = (laid_out(run, layout) for layout in (PERTURBATION, DISTANCE, REGIONS))
    clean = [] if images.empty else [text for text in [clean_remark(images)] if text]
    head = Head(header[0] if header else "", [*header, *clean], [*about.caption, *clean])
    published = about.paper.of(published_table1())
    cells = [] if regions.empty else by_cell(regions)
    work = 9 + 2 * len(cells) + len(run.protocols)
    with tqdm(total=work, desc="report", delay=2, leave=False) as bar:  # of seconds: most reports need none

        def done(result: Any) -> Any:
            bar.update()
            return result

        def parts() -> Iterator[Part]:
            if not images.empty:
                yield table1_part(images, published, head, about, done)
            if not distances.empty:
                yield distance_part(distances, distance_metric(run), head, done)
            if cells:
                yield regions_part(cells, head, done)
            for part in metric_parts(run, head):
                yield done(part)
            if part := done(ranking_part(run, head)):
                yield part

        found = list(parts())
        texts = ["\n".join(head.header) + "\n"] if head.header else []
        texts += [part.text for part in found]
        files = {name: data for part in found for name, data in part.files.items()}
        shown = {name: value for part in found for name, value in part.page.items()}
        if any(part.verdict is not None for part in found):
            judged = _judged(found, shown.get("why", ""), about)
            shown |= judged.page
            files |= judged.files
            texts += [judged.text, *([f"{about.paper.reason}\n"] if about.paper.reason else [])]
        if files:
            name = head.title.partition(":")[0] or folder.resolve().name
            files["report.html"] = _page(name, run, head, published, found, shown, done)
    write_in_place_of(folder, files, [*(folder / name for name in FILES), *stale(folder, files)])
    return "\n".join(escape.visible(line) for line in "\n".join(texts).split("\n"))


def _judged(parts: Sequence[Part], why: str, about: About) -> Part:
    """Return the verdict and the tests of all parts as one. why: there is no verdict, as far as it is known."""
    verdict, pairs = (pd.concat([table for table in tables if table is not None], ignore_index=True)
                      for tables in ([part.verdict for part in parts], [part.pairs for part in parts]))  # fmt: skip
    why = why or no_verdict(pd.concat(part.measured.means for part in parts if part.measured), about.controls)
    files: dict[str, str | bytes] = {"verdict.csv": csv_text(verdict), "tests.csv": csv_text(pairs)}
    text = terminal_verdict(verdict) or f"{why}\n"
    return Part(files, text, {"verdict": verdict, "pairs": pairs, "why": why})


def _page(
    name: str, run: Run, head: Head, published: pd.DataFrame, parts: Sequence[Part], shown: dict[str, Any], done: Done
) -> str:
    others = [part.measured for part in parts if part.measured]
    text: str = done(page(name, head.header, published=published, gallery=run.gallery, provenance=dict(run.about),
                          others=others, **ABSENT | shown))  # fmt: skip
    return text
