"""`rapbench drift`: compare a run with a frozen baseline, or freeze it."""

import os
from dataclasses import replace
from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.drift.baseline import beside, read_baseline, write_baseline
from rapbench.drift.comparable import differences, other_platform
from rapbench.drift.compare import compare
from rapbench.drift.compared_run import CELL, ComparedRun, read_run
from rapbench.drift.text import incomparable, markdown
from rapbench.drift.tolerances import derive


class Drifted(RapbenchError):
    """Results are not what they were."""

    code = 1


def check_run(results: Path, baseline: Path) -> str:
    """Return the report of a run that has not drifted from a baseline.

    What there is to say goes to $GITHUB_STEP_SUMMARY too, where that is set. Raises Drifted, and RapbenchError when the
    two cannot be compared; both after printing why.
    """
    frozen, run = read_baseline(baseline), read_run(results)
    found = differences(frozen, run)
    elsewhere = other_platform(frozen, run)
    if not found and elsewhere and frozen.tolerances is None:
        found = [f"platform: {', '.join(elsewhere)}, and the baseline states no tolerances for other platforms. To do: "
                 "freeze it with --perturbed, or run where it was made"]  # fmt: skip
    if found:
        _tell(incomparable(found, str(baseline), str(results)))
        raise RapbenchError(f"{results} cannot be compared with {baseline}: {found[0]}"
                            + (f" (and {len(found) - 1} more, above)" if len(found) > 1 else ""))  # fmt: skip
    moved = compare(frozen, run, frozen.tolerances if elsewhere else None)
    text = markdown(moved, _cells(frozen), str(baseline), _how(elsewhere))
    if moved:
        _tell(text)
        raise Drifted(f"{len(moved)} of {_cells(frozen)} cells have drifted from {baseline}; if that is intended, "
                      "freeze it again with --update and say why in the commit")  # fmt: skip
    _summarise(text)
    return text


def freeze_run(results: Path, baseline: Path, perturbed: list[Path]) -> str:
    """Freeze a run as the baseline; return what changed, for the commit message.

    perturbed: runs of the same configuration from which the tolerances for other platforms are derived. Raises
    RapbenchError, also when a baseline that is there cannot be read.
    """
    run, others = read_run(results), [read_run(folder) for folder in perturbed]
    if others:
        facts = tuple(other.platform | {"chunk": other.identity["chunk"]} for other in others)
        run = replace(run, tolerances=derive(run, others), perturbed=facts)
    old = read_baseline(baseline) if baseline.exists() and beside(baseline).exists() else None
    write_baseline(baseline, run)
    lines = [f"Baseline {baseline}: {_changed(old, read_baseline(baseline))}"]
    if run.tolerances is None:
        lines.append(
            "It states no tolerances: only runs on its own platform can be compared with it (--perturbed RUN)."
        )
    return "\n".join(lines)


def _changed(old: ComparedRun | None, new: ComparedRun) -> str:
    if old is None:
        return f"new, {_cells(new)} cells, {len(new.images)} images."
    if found := differences(old, new):
        return "frozen for other settings.\n\n" + "\n".join(f"- {line.partition(' To do: ')[0]}" for line in found)
    elsewhere = other_platform(old, new)
    moved = compare(old, new, old.tolerances if elsewhere else None)
    tolerances = "" if _same_tolerances(old, new) else " Other tolerances."
    return markdown(moved, _cells(new), str(old.source), _how(elsewhere) + tolerances).lstrip("# ")


def _same_tolerances(old: ComparedRun, new: ComparedRun) -> bool:
    if old.tolerances is None or new.tolerances is None:
        return old.tolerances is new.tolerances
    return old.tolerances.equals(new.tolerances)


def _cells(results: ComparedRun) -> int:
    return results.values.groupby(level=CELL).ngroups


def _how(elsewhere: list[str]) -> str:
    if elsewhere:
        return f"Another platform ({', '.join(elsewhere)}): compared within the tolerances that the baseline states."
    return "The same platform: predictions exact, logits and distances within 1e-4."


def _tell(text: str) -> None:
    print(text)
    _summarise(text)


def _summarise(text: str) -> None:
    if path := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(text + "\n")
