"""Several runs as one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import Run
from rapbench.results.told_apart import CELL, names, told_apart


@dataclass(frozen=True)
class Place:
    """The runs of one model on one data set as one.

    Parameters
    ----------
    run : Run
        Its methods are named by title and options where these are not the default: `RAP (residual absolute)`.
    methods : mapping of str to (str, str)
        Each name's label and, as text, the options that are not the default and the settings that tell it apart.
    unpaired : str
        Why the methods of its runs cannot be compared input by input; empty where they can.
    runs : sequence of Run
        What `run` is made of, methods and protocols told apart.
    """

    run: Run
    methods: Mapping[str, tuple[str, str]]
    unpaired: str
    runs: Sequence[Run]

    @property
    def comparable(self) -> list[Run]:
        """Runs within which methods can be compared input by input: `run`, or each of `runs` with its names."""
        return [_one([(run, names(run))]) for run in self.runs] if self.unpaired else [self.run]


def places(runs: Sequence[Run]) -> list[Place]:
    """Return the runs as one for each model and data set.

    Raises RapbenchError for two runs with the same results, and for a row that is there twice with other numbers.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in told_apart(runs):
        groups.setdefault((run.model, run.data), []).append(run)
    return [Place(_joined(group), {name: (label, run.options[label]) for run in group
                                   for label, name in names(run).items()}, unpaired(group), group)
            for group in groups.values()]  # fmt: skip


def joined(among: Sequence[Place]) -> Run:
    """Return all places as one run, its methods named by `called`."""
    return _one([(place.run, names) for place, names in zip(among, called(among), strict=True)])


def called(among: Sequence[Place]) -> list[dict[str, str]]:
    """Return for each place what its methods are called among all: by model and data, where these differ, and name."""
    many = [name for name in ("model", "data") if len({getattr(place.run, name) for place in among}) > 1]
    return [{name: ": ".join([*(getattr(place.run, part) for part in many), method.title or name]) if many else name
             for name, method in place.run.methods.items()} for place in among]  # fmt: skip


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


def _joined(runs: Sequence[Run]) -> Run:
    """Return runs of one model and data set as one."""
    for number, run in enumerate(runs):
        for other in runs[:number]:
            if _same(run, other):
                raise RapbenchError(
                    f"two runs have the same results of {run.model} on {run.data} "
                    f"({', '.join(run.methods)} by {', '.join(run.tables)}{_written_to(other, run)}); name "
                    "different runs"
                )
    return _one([(run, names(run)) for run in runs])


def _written_to(*runs: Run) -> str:
    """Say where runs wrote their results, as far as that is known."""
    outputs = [run.about.get("config", {}).get("output") for run in runs]
    return f", in {' and '.join(outputs)}" if all(outputs) else ""


def _same(one: Run, other: Run) -> bool:
    return names(one) == names(other) and all(
        mine.keys() == theirs.keys() and all(mine[label].equals(theirs[label]) for label in mine)
        for mine, theirs in ((one.tables, other.tables), (one.numbers, other.numbers))
    )


def _one(parts: Sequence[tuple[Run, Mapping[str, str]]]) -> Run:
    """Return runs, each with its methods' new names, as one. A result that several have is there once."""
    methods: dict[str, MethodInfo] = {}
    protocols: dict[str, ProtocolInfo] = {}
    found: tuple[dict[str, list[pd.DataFrame]], ...] = ({}, {})
    for run, called in parts:
        for label, info in run.protocols.items():
            if protocols.setdefault(label, info) != info:
                raise RapbenchError(f"protocol {label!r} has other metrics in {run.model} than in another run")
            for tables, mine in zip(found, (run.tables, run.numbers), strict=True):
                if label in mine:
                    tables.setdefault(label, []).append(mine[label].assign(method=mine[label]["method"].map(called)))
        for label, method in run.methods.items():
            name = called[label]
            methods[name] = replace(method, title=method.title if name == label else "", options={})
    joined = [{label: pd.concat(tables, ignore_index=True) for label, tables in each.items()} for each in found]
    for each in joined if len(parts) > 1 else ():
        for label, table in each.items():
            each[label] = once = table.drop_duplicates(ignore_index=True)
            if len(twice := once[once.duplicated(CELL)]):
                raise RapbenchError(
                    f"{twice['method'].iloc[0]} is there twice by {label}, with other numbers, and no setting tells "
                    "the two apart; name different runs"
                )
    model, data = (", ".join(dict.fromkeys(getattr(run, name) for run, _ in parts)) for name in ("model", "data"))
    pixels = max(run.pixels for run, _ in parts)  # of inputs of several sizes a share stands at the largest's number
    return Run(model, data, methods, protocols, joined[0], joined[1], pixels=pixels)
