"""A frozen baseline: <name>.csv with every image's results, <name>.yaml with what they are of, and tolerances."""

import csv
import io
from pathlib import Path
from typing import Any, Literal, NotRequired

import numpy as np
import pandas as pd
import yaml
from typing_extensions import TypedDict

from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole
from rapbench.core.reading import read_text, read_yaml
from rapbench.core.spreadsheet import cell, from_cell
from rapbench.drift.compared_run import CELL, KEYS, VALUES, ComparedRun, in_order

HEADER = "# Written by `rapbench drift --update`, read by `rapbench drift`: docs/drift.md says what everything means.\n"


class Image(TypedDict):
    """What is known of an image."""

    label: int
    sha256: str


class Facts(TypedDict):
    """What <name>.yaml holds."""

    identity: dict[str, Any]
    images: dict[str, Image]
    platform: dict[str, Any]
    versions: dict[str, str]
    perturbed: list[dict[str, Any]]
    tolerances: list[dict[str, str | float]] | None
    metrics: NotRequired[dict[str, Literal["number", "count", "class"]]]  # beside VALUES


def read_baseline(path: Path) -> ComparedRun:
    """Read a baseline's two files. Raises RapbenchError that names what is missing or not understood."""
    facts = beside(path)
    for file in (path, facts):
        if not file.is_file():
            raise RapbenchError(f"there is no baseline {file}; freeze one from a run with: rapbench drift RESULTS "
                                f"--baseline {path} --update")  # fmt: skip
    try:
        known = read_yaml(facts, Facts)
        frame = pd.read_csv(io.StringIO(read_text(path)), dtype=str, keep_default_na=False)
        frame[list(frame.columns.intersection(KEYS))] = frame[frame.columns.intersection(KEYS)].map(from_cell)
        kinds = VALUES | known.get("metrics", {})
        if list(frame.columns) != [*KEYS, *kinds]:
            raise ValueError(f"its columns are not {', '.join([*KEYS, *kinds])}")
        values = in_order(_numbers(frame, list(kinds)), list(kinds))
        tolerances = known["tolerances"] and _numbers(pd.DataFrame(known["tolerances"]), list(kinds)).set_index(CELL)
        if values.index.has_duplicates:
            raise ValueError(f"{values.index[values.index.duplicated()][0]} is there twice")
        return ComparedRun(
            str(path), known["identity"], known["images"], known["platform"], values, known["versions"],
            tolerances=tolerances if isinstance(tolerances, pd.DataFrame) else None,
            perturbed=tuple(known["perturbed"]), kinds=kinds,
        )  # fmt: skip
    except (RapbenchError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        why = " ".join(str(error).split())
        raise RapbenchError(f"{path} with {facts.name} is not a baseline ({why:.300}); restore it or freeze it again "
                            "with --update") from error  # fmt: skip


def write_baseline(path: Path, run: ComparedRun) -> None:
    """Write a run's results as a baseline's two files; same results, same bytes. Raises RapbenchError."""
    write_whole(path, values_csv(run.values).encode())
    tolerances = None
    if run.tolerances is not None:
        rows = run.tolerances.reset_index().to_dict("records")
        tolerances = [{str(key): value for key, value in row.items() if value == value} for row in rows]
    facts: dict[str, Any] = {
        "identity": run.identity,
        "images": run.images,
        "platform": run.platform,
        "versions": run.versions,
        "perturbed": list(run.perturbed),
        "tolerances": tolerances,
    }
    if more := {name: kind for name, kind in run.kinds.items() if name not in VALUES}:
        facts["metrics"] = more
    dump: Any = yaml.safe_dump  # None: what holds nothing nested is put on one line
    write_whole(beside(path), (HEADER + dump(facts, sort_keys=False, width=1000, default_flow_style=None)).encode())


def beside(path: Path) -> Path:
    """The baseline's other file. Raises RapbenchError when the baseline is not named by its CSV."""
    if path.suffix != ".csv":
        raise RapbenchError(f"a baseline is named by its CSV file, such as baselines/drift/mine.csv, not {path}")
    return path.with_suffix(".yaml")


def values_csv(values: pd.DataFrame) -> str:
    """Return a line a result, with the fewest digits that give the float32 back; empty where there is none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*KEYS, *values.columns])
    for key, row in zip(values.index, values.to_numpy(), strict=True):
        writer.writerow([*map(cell, key), *map(_shortest, row)])
    return text.getvalue()


def _shortest(value: float) -> str:
    if np.isnan(value):
        return ""
    return str(int(value)) if value == int(value) and abs(value) < 2**24 else str(np.float32(value))


def _numbers(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    present = [column for column in columns if column in frame]
    return frame.assign(**{column: pd.to_numeric(frame[column].replace("", np.nan)) for column in present})
