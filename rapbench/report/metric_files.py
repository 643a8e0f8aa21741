"""The parts of a report of any protocol without a layout of its own: tables and a figure, verdict and tests."""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pandas as pd

from rapbench.core.spreadsheet import csv_text
from rapbench.protocols.base.metric import Metric
from rapbench.report import START
from rapbench.report.canvas import KINDS, figure_files
from rapbench.report.means import Measured, means
from rapbench.report.metric_plots import metrics_figure
from rapbench.report.metric_tables import metric_blocks, shown_steps
from rapbench.report.pairs import pair_tests
from rapbench.report.part import Head, Part
from rapbench.report.table_text import image_counts, latex_blocks, markdown_blocks, terminal_blocks
from rapbench.report.verdict import Judged, verdicts
from rapbench.results.display import ordered
from rapbench.results.layouts import layout_of
from rapbench.results.merged import Place
from rapbench.results.run import Run

SUFFIXES = ("csv", "md", "tex", *KINDS)


def metric_parts(run: Run, head: Head) -> Iterator[Part]:
    """Yield the report of each protocol without a layout of its own."""
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
        title = f"{head.title} {label}, {image_counts(table['n'])}".strip()
        files: dict[str, str | bytes] = {
            f"{stem}.csv": csv_text(table),
            f"{stem}.md": "\n\n".join([*head.markdown, *markdown_blocks(blocks)]) + "\n",
            f"{stem}.tex": latex_blocks(blocks, head.header, head.caption),
        }
        measured = Measured(label, info, table)
        files |= figure_files(metrics_figure([measured], title), stem)
        yield Part(files, terminal_blocks(blocks), {}, judged(run, label), tested(run, label), measured)


def stale(folder: Path, written: Collection[str]) -> list[Path]:
    """Return the files of protocols that an earlier report told of: those that stand there in every format."""
    found = []
    for path in folder.glob(f"{START}*.csv"):
        group = [path.with_name(f"{path.name.removesuffix('csv')}{suffix}") for suffix in SUFFIXES]
        if path.name not in written and all(file.is_file() for file in group):
            found += group
    return found


def judged(run: Run, label: str) -> pd.DataFrame:
    """Return the verdict on the methods by a protocol, of its curves and of its single numbers."""
    controls = [name for name, method in run.methods.items() if method.control]
    parts = []
    for metrics, frame, stepped in _frames(run, label):
        found = verdicts(frame, controls, {metric.name: _judged(metric) for metric in metrics})
        if metrics[0] in run.protocols[label].summaries:
            found["perturbation"] = f"{label} ({', '.join(metric.name for metric in metrics)})"
        if not stepped:
            found["ks"] = ""
        parts.append(found)
    return pd.concat(parts, ignore_index=True) if parts else verdicts(EMPTY)


def tested(run: Run, label: str) -> pd.DataFrame:
    """Return the paired tests of all methods by a protocol; of a long curve at some of its steps."""
    parts = []
    for metrics, frame, stepped in _frames(run, label):
        few = frame[frame["k"].isin(shown_steps(ordered("k", frame["k"])))]
        found = pair_tests(few, {metric.name: metric.name for metric in metrics})
        parts.append(found if stepped else found.assign(k=""))
    return pd.concat(parts, ignore_index=True) if parts else pair_tests(EMPTY)


EMPTY = pd.DataFrame(columns=["image", "method", "sign", "perturbation", "k", "correct", "logit"])


def _frames(run: Run, label: str) -> Iterator[tuple[list[Metric], pd.DataFrame, bool]]:
    """Yield the metrics of the curves and those of the single numbers, with the results that are defined.

    Third: whether these have steps.
    """
    info = run.protocols[label]
    for metrics, tables in ((info.metrics, run.tables), (info.summaries, run.numbers)):
        shown = [metric for metric in metrics if not metric.detail]
        if shown and label in tables:
            frame = tables[label].rename(columns={"input": "image", "variant": "sign"}).assign(perturbation=label)
            frame = frame.dropna(subset=[metric.name for metric in shown])
            types = {metric.name: bool for metric in shown if metric.kind == "share"}
            # pandas gives an empty name in columns another meaning
            yield shown, frame.astype(types).assign(k=frame["k"].replace("", "all")), bool((frame["k"] != "").any())


def _judged(metric: Metric) -> Judged:
    return Judged(metric.name, metric.better, 100 if metric.kind == "share" else 1)


def paired_tests(among: Sequence[Place]) -> pd.DataFrame:
    """Return the paired tests of the methods of each place, as `Results.compare` does; empty without a place."""
    parts = [tested(place.run, label).assign(model=place.run.model, data=place.run.data)
             for place in among for label in place.run.tables]  # fmt: skip
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    return found.rename(columns={"sign": "variant", "perturbation": "protocol"})
