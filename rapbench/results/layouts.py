"""Results in the columns of the reports' special layouts: Table I, D_K and region perturbation."""

from collections.abc import Mapping

import pandas as pd

from rapbench.results.info import ProtocolInfo
from rapbench.results.run import Run

PERTURBATION, DISTANCE, REGIONS = "Table I", "D_K", "region perturbation"  # Protocol.table
# The metrics that a layout has, one of each group.
NEEDS = {
    PERTURBATION: [{"selected"}, {"predicted"}, {"accuracy"}, {"logit"}],
    DISTANCE: [{"selected"}, {"distance"}],
    REGIONS: [{"predicted"}, {"accuracy"}, {"logit", "probability"}],
}
# What the layouts call a protocol's columns.
NAMES = {
    PERTURBATION: {"variant": "sign", "accuracy": "correct"},
    DISTANCE: {"variant": "sign"},
    REGIONS: {"variant": "order", "k": "step", "accuracy": "correct"},
}


def layout_of(protocol: ProtocolInfo) -> str:
    """Return which of the special layouts a protocol's results have; empty for none of them."""
    names = {metric.name for metric in protocol.metrics}
    return protocol.table if all(names & group for group in NEEDS.get(protocol.table, [set()])) else ""


def distance_metric(run: Run) -> str:
    """Return what a run's D_K measures, by its name in `display.METRIC_NAMES`."""
    units = {metric.unit for info in run.protocols.values() if layout_of(info) == DISTANCE for metric in info.shown}
    return "squared_distance" if "pixels²" in units else "distance"


def laid_out(run: Run, layout: str) -> pd.DataFrame:
    """Return the results of all protocols of a layout: a row for each input, method, protocol, sign or order, and K."""
    labels = [label for label, info in run.protocols.items() if layout_of(info) == layout and label in run.tables]
    if not labels:
        return pd.DataFrame()
    parts = [run.tables[label].assign(perturbation=label) for label in labels]
    frame = pd.concat(parts, ignore_index=True)
    places: Mapping[str, int] = {label: place for place, label in enumerate(run.methods)}
    frame = frame.sort_values("method", key=lambda names: names.map(places), kind="stable", ignore_index=True)
    if layout == REGIONS:
        outputs = [name for name in ("logit", "probability") if name in frame]
        frame = frame.assign(k=frame["k"].astype("int32"), score=frame[outputs].bfill(axis=1).iloc[:, 0],
                             output=frame[outputs].notna().idxmax(axis=1)).drop(columns=outputs)  # fmt: skip
    frame = frame.rename(columns={"input": "image"} | NAMES[layout])
    first = ["image", "label", "method", NAMES[layout]["variant"], "perturbation",
             *(["step", "output"] if layout == REGIONS else ["k"])]  # fmt: skip
    return frame[first + [name for name in frame if name not in first]]
