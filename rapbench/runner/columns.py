"""The per-image results in the columns that the reports take, by the kind of protocol."""

import pandas as pd

from rapbench.protocols.protocol import Protocol

# What the reports call a protocol's columns.
NAMES = {
    "perturbation": {"variant": "sign", "accuracy": "correct"},
    "measure": {"variant": "sign"},
    "regions": {"variant": "order", "k": "step", "accuracy": "correct"},
}


def kind_of(protocol: Protocol) -> str:
    """Return which of the reports' tables a protocol's results go into; empty for none."""
    names = {metric.name for metric in protocol.metrics}
    if protocol.step_name == "regions replaced":
        return "regions"
    if {"accuracy", "logit", "selected"} <= names:
        return "perturbation"
    return "measure" if "distance" in names else ""


def named(frame: pd.DataFrame, kind: str) -> pd.DataFrame:
    """Return results with the columns of a kind."""
    if kind == "regions":
        f = [name for name in ("logit", "probability") if name in frame]
        frame = frame.assign(k=frame["k"].astype("int32"))
        values = frame[f].bfill(axis=1).iloc[:, 0]
        output = frame[f].notna().idxmax(axis=1)
        frame = frame.drop(columns=f).assign(score=values)
        frame.insert(list(frame).index("k") + 1, "output", output)
    return frame.rename(columns=NAMES[kind])
