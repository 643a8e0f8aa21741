"""The cells of a run as its results, with what its methods and protocols say of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from rapbench.core.errors import RapbenchError
from rapbench.data.subset.manifest import Row, Subset
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.labels import is_control, titles
from rapbench.methods.heatmaps import ReadyMade
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import KEYS, Run, typed


def results_of(
    model: str,
    data: str,
    methods: Sequence[Choice],
    protocols: Sequence[Choice],
    subset: Subset,
    cells: Mapping[tuple[str, str], pa.Table],
    pixels: int,
) -> Run:
    """Return a run's results. cells: by the labels of method and protocol. pixels: that an input has."""
    infos = {choice.label: ProtocolInfo.of(choice.protocol, _changed(choice)) for choice in protocols}
    names = titles(methods)
    known = {
        choice.label: MethodInfo(
            names.get(choice.label, ""), is_control(choice), changed, tuple(changed) if choice.title else ()
        )
        for choice, changed in ((choice, _changed(choice)) for choice in methods)
    }
    tables, numbers = {}, {}
    for protocol in protocols:
        info = infos[protocol.label]
        found = [(method, cells[method.label, protocol.label]) for method in methods
                 if (method.label, protocol.label) in cells]  # fmt: skip
        if not found:
            continue
        tables[protocol.label] = typed(_table(found, protocol, subset.rows), info.metrics)
        if info.summaries:
            numbers[protocol.label] = typed(_summarised(tables[protocol.label], protocol), info.summaries)
    return Run(model, data, known, infos, tables, numbers, subset.identity, subset=subset, pixels=pixels)


def _table(found: Sequence[tuple[Choice, pa.Table]], protocol: Choice, rows: Sequence[Row]) -> pd.DataFrame:
    """Return the cells of a protocol one below the other, variant by variant within a method."""
    lengths = [len(table) for _, table in found]
    frame = pa.concat_tables([table for _, table in found]).to_pandas()  # at once: there may be hundreds
    ranks = {name: rank for rank, name in enumerate(protocol.protocol.variants(("positive", "negative")))}
    order = np.lexsort((frame["variant"].map(ranks), np.repeat(np.arange(len(found)), lengths)))
    images = [rows[row] for row in frame.pop("row")]
    frame["input"], frame["label"] = [row.file for row in images], [row.label for row in images]
    frame["method"] = np.repeat([method.label for method, _ in found], lengths)
    ordered: pd.DataFrame = frame.iloc[order]
    return ordered


def _summarised(table: pd.DataFrame, protocol: Choice) -> pd.DataFrame:
    """Return the protocol's summaries of every curve."""
    parts = []
    for (_, variant), part in table.groupby(["method", "variant"], sort=False):
        steps = list(dict.fromkeys(part["k"]))
        curves = {metric.name: part[metric.name].to_numpy(np.float64).reshape(-1, len(steps))
                  for metric in protocol.protocol.metrics}  # fmt: skip
        found = protocol.protocol.summary(curves, steps)
        wanted = [metric.name for metric in protocol.protocol.summaries]
        firsts = part.iloc[:: len(steps)][KEYS].assign(k="")
        if sorted(found) != sorted(wanted) or any(np.shape(values) != (len(firsts),) for values in found.values()):
            raise RapbenchError(
                f"protocol {protocol.label!r}: summary must return {', '.join(wanted)} of shape ({len(firsts)},) for "
                f"variant {variant!r}, got { {name: np.shape(values) for name, values in found.items()} }"
            )
        parts.append(firsts.assign(**found))
    return pd.concat(parts)


def _changed(choice: Choice) -> dict[str, Any]:
    """Return the options that are not the default, but for the steps, which every row names."""
    entry, found = choice.entry, {"k"}
    if isinstance(entry, ReadyMade) and entry.source.signs is None:
        found.add("signs")  # by the heatmaps, and asked for by nobody
    defaults = {name: _listed(value) for name, value in entry.options.items()}
    given = {name: _listed(value) for name, value in choice.options.items() if name not in found}
    return {name: value for name, value in given.items() if value != defaults.get(name)}


def _listed(value: Any) -> Any:
    """Return a value with lists for tuples, as a file holds it."""
    if isinstance(value, Mapping):
        return {name: _listed(item) for name, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (list, tuple)) else value
