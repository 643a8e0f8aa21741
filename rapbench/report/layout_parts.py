"""The parts of a report that have a layout of their own: Table I, D_K, and region perturbation with AOPC."""

from collections.abc import Sequence

import pandas as pd

from rapbench.core.spreadsheet import csv_text
from rapbench.report import plots
from rapbench.report.about import About
from rapbench.report.canvas import figure_files
from rapbench.report.distance import distance_table, distance_terminal
from rapbench.report.intervals import intervals_latex, intervals_markdown
from rapbench.report.pairs import pair_tests
from rapbench.report.paper import beside_paper, markdown_paper
from rapbench.report.part import Done, Head, Part
from rapbench.report.region_curves import region_curves
from rapbench.report.regions import aopc, aopc_blocks, drop_curve
from rapbench.report.remarks import exhausted_remarks
from rapbench.report.table1 import table1
from rapbench.report.table1_text import table1_latex, table1_markdown, table1_terminal
from rapbench.report.table_text import image_counts, markdown_blocks, terminal_blocks
from rapbench.report.verdict import markdown_verdict, no_verdict, verdicts


def table1_part(images: pd.DataFrame, published: pd.DataFrame, head: Head, about: About, done: Done) -> Part:
    """Return Table I of per-image results, with intervals, curves, verdict and tests. published: the paper's rows."""
    table, pairs = (done(of(images)) for of in (table1, pair_tests))
    verdict, why = done(verdicts(images, about.controls)), no_verdict(images, about.controls)
    cells, remarks = beside_paper(table, published), exhausted_remarks(images)
    beside = [text for text in [about.paper.reason, markdown_paper(cells)] if text]
    above = [*head.markdown, markdown_verdict(verdict, why), *beside]
    files: dict[str, str | bytes] = {
        "table1.csv": csv_text(table),
        **({} if cells.empty else {"paper.csv": csv_text(cells)}),
        "table1.md": table1_markdown(table, published, above, remarks, about.refused),
        "table1.tex": table1_latex(table, published, head.header, head.caption, remarks, about.refused),
        "intervals.md": intervals_markdown(table, head.markdown),
        "intervals.tex": done(intervals_latex(table, head.header, head.caption)),
        **done(figure_files(plots.curves(table, f"{head.title} {image_counts(table['n'])}"), "curves")),
    }
    page = {"table": table, "paper": cells, "images": images, "remarks": remarks, "why": why,
            "aside": about.paper.reason}  # fmt: skip
    return Part(files, table1_terminal(table, published, remarks, about.refused), page, verdict, pairs)


def distance_part(distances: pd.DataFrame, metric: str, head: Head, done: Done) -> Part:
    """Return D_K of per-image distances. metric: as `distance_table` takes it."""
    means = done(distance_table(distances, metric))
    title, remarks = f"{head.title} {image_counts(means['n'])}", exhausted_remarks(distances)
    files: dict[str, str | bytes] = {
        "distance.csv": csv_text(means),
        **done(figure_files(plots.distance_curves(means, title), "distance")),
    }
    return Part(files, distance_terminal(means, remarks), {"distance": means, "distance_remarks": remarks})


def regions_part(cells: Sequence[pd.DataFrame], head: Head, done: Done) -> Part:
    """Return the curves of region perturbation and AOPC. cells: of `regions.by_cell`."""
    drops, areas = (pd.concat([done(of(cell)) for cell in cells], ignore_index=True) for of in (drop_curve, aopc))
    blocks = aopc_blocks(areas)
    files: dict[str, str | bytes] = {
        "regions.csv": csv_text(drops),
        "aopc.csv": csv_text(areas),
        "aopc.md": "\n\n".join([*head.markdown, *markdown_blocks(blocks)]) + "\n",
        **figure_files(region_curves(drops, f"{head.title} {image_counts(areas['n'])}"), "regions"),
    }
    return Part(files, terminal_blocks(blocks), {"aopc": areas})
