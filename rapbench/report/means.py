"""Any protocol's per-input results to means with intervals, by what its metrics say of themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.report.per_image import bootstrap_intervals, refuse_twice
from rapbench.report.statistics import wilson
from rapbench.results.display import ordered
from rapbench.results.info import ProtocolInfo
from rapbench.results.run import Run

CELL = ["variant", "method", "k"]
COLUMNS = ["protocol", "variant", "metric", "method", "k", "value", "n", "low", "high"]


class Measured(NamedTuple):
    """A protocol's label, what is known of it, and its `means`."""

    protocol: str
    info: ProtocolInfo
    means: pd.DataFrame

    def metric(self, name: str) -> Metric:
        """Return one of its metrics."""
        return next(metric for metric in self.info.shown if metric.name == name)


def means(run: Run, protocol: str) -> pd.DataFrame:
    """Average a protocol's results over the inputs: COLUMNS, variant by variant, metric by metric.

    value: the mean, of a share in per cent. n: inputs that have a value; one without (NaN) does not count. low, high:
    the 95 % interval, Wilson's of a share, else by the bootstrap over inputs. k: empty for a number without steps.
    Raises RapbenchError where an input is in a cell twice.
    """
    info = run.protocols[protocol]
    parts = [_averaged(run.tables[protocol], metric) for metric in info.metrics if not metric.detail]
    if protocol in run.numbers:
        parts += [_averaged(run.numbers[protocol], metric) for metric in info.summaries if not metric.detail]
    if not parts:
        return pd.DataFrame(columns=COLUMNS)
    return in_order(pd.concat(parts, ignore_index=True).assign(protocol=protocol), info)


def in_order(table: pd.DataFrame, info: ProtocolInfo) -> pd.DataFrame:
    """Return means in the order of reports: variant by variant, metric by metric, method by method, step by step."""
    metrics = [metric.name for metric in info.shown]
    ranks = {
        "variant": _ranks(dict.fromkeys(table["variant"])),
        "metric": _ranks(metrics),
        "method": _ranks(ordered("method", table["method"])),
        "k": _ranks(ordered("k", table["k"])),
    }
    keys = list(ranks)
    return table.sort_values(keys, key=lambda column: column.map(ranks[str(column.name)]), ignore_index=True)[COLUMNS]


def _averaged(table: pd.DataFrame, metric: Metric) -> pd.DataFrame:
    frame = table.rename(columns={"input": "image"})
    refuse_twice(frame, CELL)
    frame = frame[frame[metric.name].notna()]
    places = frame.groupby(CELL, sort=False)[metric.name]
    # Sorted before they are summed, so that the order of the inputs cannot change the last digit.
    found = places.agg(value=lambda group: np.sort(group.to_numpy(np.float64)).mean(), n="size")
    if metric.kind == "share":
        ends = [wilson(round(share * n), n) for share, n in zip(found["value"], found["n"], strict=True)]
        found["value"] *= 100
    else:
        intervals = bootstrap_intervals(frame, CELL, metric.name) if len(frame) else {}
        ends = [intervals[place] for place in found.index]
    found[["low", "high"]] = np.array(ends, dtype=float).reshape(-1, 2)
    every = table.groupby(CELL, sort=False).size().index  # a cell in which nothing is defined is shown as such
    whole: pd.DataFrame = found.reindex(every).assign(metric=metric.name)
    whole["n"] = whole["n"].fillna(0).astype("int64")
    return whole.reset_index()


def _ranks(names: Sequence[str] | dict[str, None]) -> dict[str, int]:
    return {name: rank for rank, name in enumerate(names)}
