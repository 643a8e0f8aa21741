"""Several runs as one, whose rows are named by what they differ in."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from rapbench.errors import RapbenchError
from rapbench.results.info import MethodInfo, ProtocolInfo, option_text
from rapbench.results.run import Run

# Of a configuration: what a row is named by otherwise, and what moves no result or only its rounding.
NAMED = {"model", "data", "method", "protocol", "output", "results", "shard", "chunk", "batch", "name", "gallery",
         "heatmaps", "paper"}  # fmt: skip


def merged(runs: Sequence[Run], *, paired: bool = False) -> Run:
    """Return the runs as one. Its methods are named by model and data, where these differ, and by their options.

    paired: whether the rows are to be compared input by input. Raises RapbenchError where they cannot be, and where
    runs have two results that nothing tells apart.
    """
    if paired and (why := unpaired(runs)):
        raise RapbenchError(f"no paired tests: {why}")
    methods: dict[str, MethodInfo] = {}
    protocols: dict[str, ProtocolInfo] = {}
    tables: dict[str, list[pd.DataFrame]] = {}
    numbers: dict[str, list[pd.DataFrame]] = {}
    titles = _protocol_titles(runs)
    for run, names in zip(runs, row_names(runs), strict=True):
        for label, info in run.protocols.items():
            title = titles[label, option_text(info.options)]
            if protocols.setdefault(title, info) != info:
                raise RapbenchError(f"protocol {label!r} has other metrics in {run.model} than in another run")
            for found, mine in ((tables, run.tables), (numbers, run.numbers)):
                if label in mine:
                    found.setdefault(title, []).append(mine[label].assign(method=mine[label]["method"].map(names)))
        for label, method in run.methods.items():
            methods[names[label]] = replace(method, title="", options={})
    models = list(dict.fromkeys(run.model for run in runs))
    data = list(dict.fromkeys(run.data for run in runs))
    joined = [{title: pd.concat(parts, ignore_index=True) for title, parts in found.items()}
              for found in (tables, numbers)]  # fmt: skip
    for title, table in joined[0].items():
        twice = table[table.duplicated(["input", "method", "variant", "k"])]
        if len(twice):
            raise RapbenchError(f"{twice['method'].iloc[0]} is there twice by {title}; name different runs")
    return Run(", ".join(models), ", ".join(data), methods, protocols, joined[0], joined[1])


def unpaired(runs: Sequence[Run]) -> str:
    """Say why runs cannot be compared input by input; empty where they can."""
    if len({run.data for run in runs}) > 1:
        return f"the runs are of different data ({', '.join(dict.fromkeys(run.data for run in runs))})"
    known = {run.inputs for run in runs if run.inputs}
    sets = {frozenset(pair for table in run.tables.values()
                      for pair in zip(table["input"], table["label"], strict=True)) for run in runs}  # fmt: skip
    if len(known) > 1 or len(sets) > 1:
        return "the runs are of different images; subset.require= or subset.manifest= gives all the same"
    return ""


def row_names(runs: Sequence[Run]) -> list[dict[str, str]]:
    """Return for each run what its methods are called among those of all the runs, by label."""
    models, data = ({getattr(run, name) for run in runs} for name in ("model", "data"))
    varied = list(_varied(runs))
    counts: dict[str, int] = {}
    names = []
    for run in runs:
        place = [*([run.model] if len(models) > 1 else []), *([run.data] if len(data) > 1 else [])]
        mine = {label: ": ".join([*place, _called(label, method)]) for label, method in run.methods.items()}
        names.append(mine)
        for name in mine.values():
            counts[name] = counts.get(name, 0) + 1
    return [{label: f"{name} [{text}]" if counts[name] > 1 and text else name for label, name in mine.items()}
            for mine, text in zip(names, varied, strict=True)]  # fmt: skip


def _called(label: str, method: MethodInfo) -> str:
    """Return a method's label, which the tables know; with options what is read, such as `RAP (residual absolute)`."""
    options = option_text(method.options)
    return _named(method.title or label, options.replace("=", " ")) if options else label


def _named(label: str, options: str) -> str:
    return f"{label} ({options})" if options else label


def _protocol_titles(runs: Sequence[Run]) -> dict[tuple[str, str], str]:
    """Return what a protocol with its options is called: by its label where all runs have the same options."""
    found: dict[str, dict[str, None]] = {}
    for run in runs:
        for label, info in run.protocols.items():
            found.setdefault(label, {})[option_text(info.options)] = None
    return {(label, text): _named(label, text) if len(texts) > 1 else label
            for label, texts in found.items() for text in texts}  # fmt: skip


def _varied(runs: Sequence[Run]) -> Iterator[str]:
    """Yield each run's settings in which it differs from the others, and that name nothing else."""
    configs = [dict(_flat(run.about.get("config", {}))) for run in runs]
    keys = {key for config in configs for key in config if key.split(".")[0] not in NAMED}
    differ = sorted(key for key in keys if len({repr(config.get(key)) for config in configs}) > 1)
    for config in configs:
        yield ", ".join(f"{key}={config.get(key)}" for key in differ)


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
