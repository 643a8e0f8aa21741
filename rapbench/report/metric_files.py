"""The report of any protocol without a layout of its own: tables and a figure, verdict and paired tests."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from rapbench.report.canvas import KINDS, figure_files
from rapbench.report.escape import LATEX
from rapbench.report.layouts import layout_of
from rapbench.report.means import Measured, means
from rapbench.report.metric_plots import metric_figure
from rapbench.report.metric_tables import metric_blocks, shown_steps
from rapbench.report.pairs import pair_tests
from rapbench.report.tables import MINUS, counts, latex_blocks, markdown_blocks, ordered, terminal_blocks
from rapbench.report.verdict import Judged, verdicts
from rapbench.results.metric import Metric
from rapbench.results.run import Run
from rapbench.spreadsheet import csv_text

START = "metric-"
SUFFIXES = ("csv", "md", "tex", *KINDS)


class Told(NamedTuple):
    """What a report says of one protocol. files: by name. text: for a terminal."""

    measured: Measured
    files: dict[str, str | bytes]
    text: str
    verdict: pd.DataFrame
    pairs: pd.DataFrame


def told(
    run: Run, header: Sequence[str], plain: Sequence[str], caption: Sequence[str], controls: Collection[str]
) -> Iterator[Told]:
    """Yield what there is to say of each protocol without a layout of its own.

    header: sentences on the run; plain: the same as Markdown; caption: those for print. controls: methods that look at
    no model.
    """
    stems: set[str] = set()
    for label, info in run.protocols.items():
        if label not in run.tables or layout_of(info):
            continue
        table = means(run, label)
        if table.empty:
            continue
        stem = START + re.sub(r"[^\w.-]+", "_", label)
        while stem in stems:
            stem += "_"
        stems.add(stem)
        blocks = metric_blocks(table, label, info)
        title = f"{header[0] if header else ''} {label}, {counts(table['n'])}".strip()
        files: dict[str, str | bytes] = {
            f"{stem}.csv": csv_text(table),
            f"{stem}.md": "\n\n".join([*plain, *markdown_blocks(blocks)]) + "\n",
            f"{stem}.tex": latex_blocks(
                blocks, list(header), list(caption), lambda cell: cell.translate(LATEX | MINUS)
            ),
        }
        files |= figure_files(metric_figure(table, info, title), stem)
        yield Told(Measured(label, info, table), files, terminal_blocks(blocks), *_compared(run, label, controls))


def stale(folder: Path, written: Collection[str]) -> list[Path]:
    """Return the files of protocols that an earlier report told of: those that stand there in every format."""
    found = []
    for path in folder.glob(f"{START}*.csv"):
        group = [path.with_name(f"{path.name.removesuffix('csv')}{suffix}") for suffix in SUFFIXES]
        if path.name not in written and all(file.is_file() for file in group):
            found += group
    return found


def _compared(run: Run, label: str, controls: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the verdict and the paired tests over the metrics of a protocol, of long curves at some steps."""
    info, verdict, pairs = run.protocols[label], [], []
    for metrics, tables in ((info.metrics, run.tables), (info.summaries, run.numbers)):
        shown = [metric for metric in metrics if not metric.detail]
        if not shown or label not in tables:
            continue
        frame = tables[label].rename(columns={"input": "image", "variant": "sign"}).assign(perturbation=label)
        frame = frame.dropna(subset=[metric.name for metric in shown])
        single = (frame["k"] == "").all()
        frame = frame.assign(k="all") if single else frame  # as pandas gives an empty name in columns another meaning
        found = verdicts(frame, controls, {metric.name: _judged(metric) for metric in shown})
        few = frame[frame["k"].isin(shown_steps(ordered("k", frame["k"])))]
        tested = pair_tests(few, {metric.name: metric.name for metric in shown})
        if metrics is info.summaries:  # of which there is a verdict of its own
            found["perturbation"] = f"{label} ({', '.join(metric.name for metric in shown)})"
        verdict.append(found.assign(ks="") if single else found)
        pairs.append(tested.assign(k="") if single else tested)
    return pd.concat(verdict, ignore_index=True), pd.concat(pairs, ignore_index=True)


def _latex(cell: str) -> str:
    return cell.translate(LATEX | MINUS)


def _judged(metric: Metric) -> Judged:
    return Judged(metric.name, metric.better, 100 if metric.kind == "share" else 1)
