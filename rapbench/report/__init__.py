"""Reports: per-image results to tables, figures, tests and a page. Nothing here needs a model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rapbench.report.about import About
    from rapbench.results.run import Run

# Of a folder that a report is written to: those of another choice of protocols go, as nothing else there tells of them.
FILES = (
    *("table1.csv", "table1.md", "table1.tex", "intervals.md", "intervals.tex", "curves.png", "curves.pdf"),
    *("tests.csv", "verdict.csv", "paper.csv", "distance.csv", "distance.png", "distance.pdf"),
    *("regions.csv", "aopc.csv", "aopc.md", "regions.png", "regions.pdf", "report.html"),
    *("ranks.csv", "ranks.md", "ranks.tex", "ranks.png", "ranks.pdf", "concordance.csv", "informative.csv"),
    *("metric_agreement.csv", "metric_agreement.png", "metric_agreement.pdf"),
)
START = "metric-"  # of the files of a protocol without a layout of its own


def write_report(folder: Path, run: "Run", header: Sequence[str] | None = None, about: "About | None" = None) -> str:
    """Write the tables, figures and the page of a run into `folder` and return their text for a terminal.

    header: sentences on what was run. about: what else is to be known of the run. Both are by default what its
    provenance tells, which goes into the page too, as does its gallery. Each file appears whole or not at all; those of
    an earlier report that are not written again go.
    """
    # Loads scipy and matplotlib, which a run does not need before.
    from rapbench.report.report_files import write_files

    if header is None:
        header = run.about.get("header", [f"{run.model} on {run.data}."])
    return write_files(folder, run, list(header), about)
