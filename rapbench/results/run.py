"""The results of one run: tables per protocol, or one tidy frame of all."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.results.gallery import Gallery, load_gallery
from rapbench.results.info import MethodInfo, ProtocolInfo, option_text

if TYPE_CHECKING:
    from rapbench.data.subset.manifest import Subset

KEYS = ["input", "label", "method", "variant", "k"]  # of a protocol's table, before its metrics
COLUMNS = ["model", "data", "input", "label", "method", "options", "protocol", "variant", "k", "metric", "value"]


@dataclass(frozen=True)
class Run:
    """One model on one data set, by some methods and protocols.

    Parameters
    ----------
    model, data : str
    methods : mapping of str to MethodInfo
        By label, in the order of the run.
    protocols : mapping of str to ProtocolInfo
        By label.
    tables : mapping of str to DataFrame
        By protocol: a row for each input, method, variant and step. Columns: KEYS, and the protocol's metrics.
    numbers : mapping of str to DataFrame
        By protocol that has summaries: a row for each input, method and variant, `k` empty.
    inputs : str
        A hash over the inputs and their labels, in order; empty where it is not known.
    about : mapping
        The run's provenance, as far as it is known.
    subset : Subset, or None
        The inputs, as a manifest names them.
    shown : Gallery, or path of the folder that it is in, or None
        A few inputs with every method's heatmaps; `gallery` reads it.
    pixels : int
        How many an input has, of which K may be a share; 0 where it is not known.
    """

    model: str
    data: str
    methods: Mapping[str, MethodInfo]
    protocols: Mapping[str, ProtocolInfo]
    tables: Mapping[str, pd.DataFrame]
    numbers: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    inputs: str = ""
    about: Mapping[str, Any] = field(default_factory=dict, repr=False)
    subset: "Subset | None" = field(default=None, repr=False)
    shown: Gallery | Path | None = field(default=None, repr=False)
    pixels: int = 0

    @property
    def gallery(self) -> Gallery | None:
        """A few inputs with every method's heatmaps. Raises RapbenchError for a file that holds something else."""
        return load_gallery(self.shown) if isinstance(self.shown, Path) else self.shown

    @property
    def titles(self) -> dict[str, str]:
        """What methods that state a title are called, by label."""
        return {label: method.title for label, method in self.methods.items() if method.title}

    @property
    def options(self) -> dict[str, str]:
        """Each method's options that are not the default, as text."""
        return {label: option_text(method.options) for label, method in self.methods.items()}

    @cached_property
    def frame(self) -> pd.DataFrame:
        """COLUMNS, a row per number; text as categories, `value` as float64."""
        parts = list(self._parts())
        empty = pd.DataFrame(columns=[*KEYS, "protocol", "metric", "value"])
        whole = pd.concat(parts, ignore_index=True) if parts else empty
        whole = whole.assign(model=self.model, data=self.data, options=whole["method"].map(self.options).astype(str))
        texts = [name for name in COLUMNS if name not in ("label", "value")]
        return whole[COLUMNS].astype(dict.fromkeys(texts, "category") | {"label": "int64", "value": "float64"})

    def _parts(self) -> Iterator[pd.DataFrame]:
        for label, info in self.protocols.items():
            for metrics, tables in ((info.metrics, self.tables), (info.summaries, self.numbers)):
                for metric in metrics if label in tables else ():
                    values = tables[label][metric.name].to_numpy().astype(np.float64)
                    yield tables[label][KEYS].assign(protocol=label, metric=metric.name, value=values)


def tables_of(frame: pd.DataFrame, protocols: Mapping[str, ProtocolInfo]) -> tuple[dict[str, pd.DataFrame], ...]:
    """Return `Run.tables` and `Run.numbers` of a tidy frame. Raises ValueError where its rows do not fit together."""
    tables: dict[str, pd.DataFrame] = {}
    numbers: dict[str, pd.DataFrame] = {}
    texts = [name for name in (*KEYS, "protocol", "metric") if name != "label"]
    frame = frame.astype(dict.fromkeys(texts, object))
    for label, part in frame.groupby("protocol", sort=False):
        info = protocols[str(label)]
        for metrics, found in ((info.metrics, tables), (info.summaries, numbers)):
            if metrics:
                found[str(label)] = _wide(part, metrics)
    return tables, {label: table for label, table in numbers.items() if len(table)}


def _wide(part: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Return a column per metric; each has the same rows in the same order."""
    columns: dict[str, np.ndarray] = {}
    keys = pd.DataFrame(columns=KEYS)
    for metric in metrics:
        rows = part[part["metric"] == metric.name]
        here = rows[KEYS].reset_index(drop=True)
        if columns and not here.equals(keys):
            raise ValueError(f"metric {metric.name} has other rows than {metrics[0].name}")
        keys, columns[metric.name] = here, rows["value"].to_numpy()
    return typed(keys.assign(**columns), metrics)


def typed(table: pd.DataFrame, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Return a table with its columns in order, and of the types that the metrics say."""
    types = {metric.name: metric.type for metric in metrics}
    return table[[*KEYS, *types]].astype(types | {"label": "int64"}).reset_index(drop=True)
