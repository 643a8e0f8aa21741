"""Runs with values by hand, of any protocols, for what ranks their methods."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import Run, typed

CONTROLS = ("random", "edge")


def single(name: str, better: str = "higher", **more: object) -> ProtocolInfo:
    """Return a protocol with one number per input."""
    return ProtocolInfo((Metric(name, {"": better}, axis=None, **more),))


def run_of(
    values: Mapping[str, Mapping[str, Sequence[float]]],
    infos: Mapping[str, ProtocolInfo] | None = None,
    methods: Sequence[str] | None = None,
) -> Run:
    """Return a run with a number per input. values: by protocol and method, one for each image."""
    infos = infos or {label: single(label) for label in values}
    tables = {}
    for label, given in values.items():
        (metric,) = infos[label].metrics
        rows = [{"input": f"{image}.png", "label": 0, "method": method, "variant": "", "k": "", metric.name: value}
                for method, numbers in given.items() for image, value in enumerate(numbers)]  # fmt: skip
        tables[label] = typed(pd.DataFrame(rows), infos[label].metrics)
    names = methods or list(dict.fromkeys(method for given in values.values() for method in given))
    return Run("net", "samples", {name: MethodInfo(control=name in CONTROLS) for name in names}, infos, tables)


def shuffled(run: Run, seed: int) -> Run:
    """Return a run with the rows of its tables in another order, and its methods."""
    draw = np.random.default_rng(seed)
    tables = {label: table.iloc[draw.permutation(len(table))].reset_index(drop=True)
              for label, table in run.tables.items()}  # fmt: skip
    names = [list(run.methods)[place] for place in draw.permutation(len(run.methods))]
    return Run(run.model, run.data, {name: run.methods[name] for name in names}, run.protocols, tables, run.numbers)
