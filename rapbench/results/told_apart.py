"""What methods and protocols of several runs are called, so that no two results have one name."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import pandas as pd

from rapbench.results.info import option_text
from rapbench.results.run import KEYS, Run

Value = TypeVar("Value")
# Of a configuration: by what a row is named otherwise, and what names no row.
OTHERWISE = {"method", "protocol", "model.name", "model.summary", "data.name", "data.summary", "output", "shard"}
# What moves no result, or only its rounding; names rows only where their numbers differ and nothing else does.
UNMOVED = {"name", "results", "chunk", "batch", "gallery", "heatmaps", "paper"}
CELL = [key for key in KEYS if key != "label"]


def names(run: Run) -> dict[str, str]:
    """Return by label what a run's methods are called among others: the label, which the tables know, where it does.

    With options it is what is read, such as `RAP (residual absolute)`, without those that its title stands for.
    """
    return {label: _named(method.title or label, _said({name: value for name, value in method.options.items()
                                                         if name not in method.titled}))
            if method.options else label for label, method in run.methods.items()}  # fmt: skip


def told_apart(runs: Sequence[Run]) -> list[Run]:
    """Return runs in which no two results have the same model, data, method, options, protocol and variant.

    A protocol's label tells its options where the runs differ in them. The options of a method that several runs have
    tell the settings in which these runs differ, such as the seed.
    """
    if len(runs) == 1:
        return list(runs)
    found = _titles_apart(_protocols_apart(runs))
    found = _methods_apart(found, {*OTHERWISE, *UNMOVED}, differing=False)
    return _methods_apart(found, OTHERWISE, differing=True)


def _titles_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with each title standing for those options alone that all methods of the title have alike."""
    alike: dict[str, set[tuple[str, str]]] = {}
    for run in runs:
        for method in run.methods.values():
            mine = {(name, repr(method.options[name])) for name in method.titled}
            alike[method.title] = alike.get(method.title, mine) & mine
    return [replace(run, methods={label: replace(method, titled=tuple(name for name, _ in sorted(alike[method.title])))
                                  for label, method in run.methods.items()}) for run in runs]  # fmt: skip


def _methods_apart(runs: list[Run], without: set[str], *, differing: bool) -> list[Run]:
    """Add to the options of methods that several runs have the settings in which these runs differ.

    without: settings that name nothing. differing: only of those that have different numbers.
    """
    alike: dict[tuple[str, str, str], list[tuple[int, str]]] = {}
    for number, run in enumerate(runs):
        for label, name in names(run).items():
            alike.setdefault((run.model, run.data, name), []).append((number, label))
    added: dict[tuple[int, str], dict[str, Any]] = {}
    for rows in alike.values():
        parts = [_rows(runs[number], label) for number, label in rows]
        if len(rows) > 1 and not (differing and _agree(parts)):
            settings = _varied([(runs[number], label) for number, label in rows], without)
            added |= dict(zip(rows, settings, strict=True))
    found = []
    for number, run in enumerate(runs):
        methods = {}
        for label, method in run.methods.items():
            new = added.get((number, label), {})
            more = {f"run.{name}" if name in method.options else name: value for name, value in new.items()}
            methods[label] = replace(method, options={**method.options, **more})
        found.append(replace(run, methods=methods))
    return found


def _rows(run: Run, label: str) -> list[tuple[str, str, pd.DataFrame]]:
    """Return a method's part of each table."""
    return [(kind, protocol, table[table["method"] == label].assign(method=""))
            for kind, tables in (("table", run.tables), ("numbers", run.numbers))
            for protocol, table in tables.items()]  # fmt: skip


def _agree(parts: Sequence[Sequence[tuple[str, str, pd.DataFrame]]]) -> bool:
    """Whether results that are there several times are the same, to the last digit."""
    found: dict[tuple[str, str], list[pd.DataFrame]] = {}
    for part in parts:
        for kind, protocol, table in part:
            found.setdefault((kind, protocol), []).append(table)
    wholes = [pd.concat(tables).drop_duplicates() for tables in found.values()]
    return not any(whole.duplicated(CELL).any() for whole in wholes)


def _protocols_apart(runs: Sequence[Run]) -> list[Run]:
    """Return the runs with each protocol called by its label and, where they differ in its options, by these."""
    texts: dict[str, set[str]] = {}
    for run in runs:
        for label, info in run.protocols.items():
            texts.setdefault(label, set()).add(option_text(info.options))
    found = []
    for run in runs:
        called = {label: _named(label, _said(info.options)) if len(texts[label]) > 1 else label
                  for label, info in run.protocols.items()}  # fmt: skip
        found.append(replace(run, protocols=_renamed(run.protocols, called), tables=_renamed(run.tables, called),
                             numbers=_renamed(run.numbers, called)))  # fmt: skip
    return found


def _renamed(values: Mapping[str, Value], called: Mapping[str, str]) -> dict[str, Value]:
    return {called[label]: value for label, value in values.items()}


def _said(options: Mapping[str, Any]) -> str:
    return option_text(options).replace("=", " ")


def _named(label: str, options: str) -> str:
    return f"{label} ({options})" if options else label


def _varied(rows: Sequence[tuple[Run, str]], without: set[str]) -> Iterator[dict[str, Any]]:
    """Yield, for each of some runs' methods, the settings in which its run differs; first what the label stands for."""
    configs = []
    for run, label in rows:
        entry = {"method": run.about.get("methods", {}).get(label, {}).get("name")}
        configs.append(entry | {key: value for key, value in _flat(_settings(run))
                                if key not in without and key.split(".")[0] not in without})  # fmt: skip
    keys = {key: None for config in configs for key in config}
    differ = [key for key in keys if len({repr(config.get(key)) for config in configs}) > 1]
    for config in configs:
        yield {key: config.get(key) for key in differ}


def _settings(run: Run) -> Mapping[str, Any]:
    """Return a run's configuration; of one that had none, its seed."""
    config: Mapping[str, Any] | None = run.about.get("config")
    return {"seed": run.about.get("seeds", {}).get("run")} if config is None else config


def _flat(config: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
