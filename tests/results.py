"""Results by hand in the columns of the reports' layouts, as a run keeps them; and a run's own in these columns."""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from rapbench import report
from rapbench.protocols.base.metric import Metric
from rapbench.report.about import About
from rapbench.results.file import NAME, read, to_bytes
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.layouts import DISTANCE, NAMES, PERTURBATION, REGIONS, laid_out
from rapbench.results.provenance import provenance_of
from rapbench.results.run import Run, typed

SIGNED = {"positive": "lower", "negative": "higher"}
SELECTED = Metric("selected", kind="count", detail=True)
PREDICTED = Metric("predicted", kind="count", detail=True)
METRICS = {
    PERTURBATION: (SELECTED, PREDICTED, Metric("accuracy", SIGNED, kind="share"), Metric("logit", SIGNED)),
    DISTANCE: (SELECTED, Metric("distance")),
    REGIONS: (PREDICTED, Metric("accuracy", kind="share", detail=True)),
}


def run_of(
    images: pd.DataFrame | None = None, distances: pd.DataFrame | None = None, regions: pd.DataFrame | None = None
) -> Run:
    """Return a run with results in the columns of `laid_out`, for each layout that is given."""
    methods: dict[str, MethodInfo] = {}
    protocols, tables = {}, {}
    for layout, frame in ((PERTURBATION, images), (DISTANCE, distances), (REGIONS, regions)):
        if frame is None or frame.empty:
            continue
        missing = {name: value for name, value in {"perturbation": "distance", "label": 0, "selected": 1}.items()
                   if name not in frame}  # fmt: skip
        for label, part in frame.assign(**missing).groupby("perturbation", sort=False):
            metrics = METRICS[layout]
            back = {new: old for old, new in NAMES[layout].items()} | {"image": "input"}
            if layout == REGIONS:
                back["score"] = part["output"].iloc[0]
                metrics = (*metrics, Metric(back["score"]))
            table = part.rename(columns=back).astype({"k": str})
            methods |= dict.fromkeys(table["method"], MethodInfo())
            protocols[str(label)] = ProtocolInfo(metrics, table=layout)
            tables[str(label)] = typed(table, metrics)
    return Run("net", "samples", methods, protocols, tables)


def write_report(
    folder: Path,
    images: pd.DataFrame | None,
    distances: pd.DataFrame | None,
    header: list[str],
    regions: pd.DataFrame | None = None,
    about: About | None = None,
) -> str:
    """Write the report of `run_of`."""
    about_run = provenance_of(folder)
    run = replace(run_of(images, distances, regions), about=about_run, shown=folder)
    return report.write_report(folder, run, header, about)


def write_results(
    folder: Path,
    images: pd.DataFrame | None = None,
    distances: pd.DataFrame | None = None,
    regions: pd.DataFrame | None = None,
) -> None:
    """Write `run_of` as the results of a run."""
    (folder / NAME).write_bytes(to_bytes(run_of(images, distances, regions)))


def images(folder: Path) -> pd.DataFrame:
    """Return a run's results of the perturbations."""
    return laid_out(read(folder / NAME), PERTURBATION)


def distances(folder: Path) -> pd.DataFrame:
    """Return a run's results of D_K."""
    return laid_out(read(folder / NAME), DISTANCE)


def regions(folder: Path) -> pd.DataFrame:
    """Return a run's results of region perturbation."""
    return laid_out(read(folder / NAME), REGIONS)
