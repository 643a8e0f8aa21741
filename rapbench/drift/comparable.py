"""Whether two runs can be compared at all, and whether they come from one platform."""

from collections.abc import Iterator
from typing import Any

from rapbench.drift.compared_run import CELL, ComparedRun

# What to do about a difference, by its first words.
ADVICE = {
    "weights_sha256": "use the weights that the baseline was made with, or freeze one for these",
    "preprocessing": "if the change of the model's preprocessing was intended, freeze the baseline again",
    "images": "run on the same images (subset.manifest=...), unless the selection itself has drifted: only "
    "images that the model classifies correctly are selected",
    "cells": "run exactly the cells of the baseline; provenance.json says why a method was skipped",
    "chunk": "run with the baseline's chunk",
}
OTHERWISE = "run with the baseline's setting, or freeze a baseline for this one"


def differences(baseline: ComparedRun, run: ComparedRun, but: tuple[str, ...] = ()) -> list[str]:
    """Return in words whatever keeps two runs from being compared; empty when they can be. but: what to pass over."""
    ours, theirs = ({k: v for k, v in side.identity.items() if k not in but} for side in (baseline, run))
    found = [_said(name, before, after) for name, before, after in _unequal(ours, theirs, "")]
    if baseline.images != run.images:
        changed = sorted(f for f in baseline.images.keys() & run.images.keys() if baseline.images[f] != run.images[f])
        parts = [
            f"{what} {_some(files)}"
            for what, files in (
                ("only in the baseline:", sorted(baseline.images.keys() - run.images.keys())),
                ("only here:", sorted(run.images.keys() - baseline.images.keys())),
                ("other bytes or another label:", changed),
            )
            if files
        ]
        found.append(f"images: {'; '.join(parts)}. To do: {ADVICE['images']}")
    if baseline.kinds != run.kinds:
        named = [", ".join(side.kinds) for side in (baseline, run)]
        found.append(f"metrics: {named[0]} in the baseline, {named[1]} here. To do: {OTHERWISE}")
    if not found:
        sides = (("missing here:", _only(baseline, run)), ("not in the baseline:", _only(run, baseline)))
        parts = [f"{what} {_some(cells)}" for what, cells in sides if cells]
        found += [f"cells: {'; '.join(parts)}. To do: {ADVICE['cells']}"] if parts else []
    return found


def other_platform(baseline: ComparedRun, run: ComparedRun) -> list[str]:
    """Return in words what differs in the platforms; empty when the digits should be the same."""
    return [f"{name} {before} there, {after} here" for name, before, after in
            _unequal(baseline.platform, run.platform, "")]  # fmt: skip


def _unequal(before: Any, after: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            yield from _unequal(before.get(key), after.get(key), f"{name}.{key}" if name else str(key))
    elif before != after:
        yield name, before, after


def _said(name: str, before: Any, after: Any) -> str:
    where = ("only in the baseline" if after is None else "not in the baseline" if before is None
             else f"{before} in the baseline, {after} here")  # fmt: skip
    return f"{name}: {where}. To do: {ADVICE.get(name, OTHERWISE)}"


def _only(one: ComparedRun, other: ComparedRun) -> list[str]:
    missing = one.values.index.difference(other.values.index, sort=False)
    return list(dict.fromkeys(" ".join(key[: len(CELL) - 1]) for key in missing))


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
