"""What a run wrote of itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict

from rapbench.core.errors import RapbenchError
from rapbench.core.reading import read_json

FILE = "provenance.json"
AGAIN = "the same run writes it again"


class Named(TypedDict):
    """A section that says what it is of, and more."""

    name: str


class Subset(TypedDict, total=False):
    """How the images were chosen."""

    require: list[Any]


class Config(TypedDict, total=False):
    """Of the configuration, what is read again; `Finished` reads it all."""

    name: str
    model: Named
    data: Named
    subset: Subset


class Provenance(TypedDict, total=False):
    """The parts of a provenance.json that are read again; all may be missing."""

    header: list[str]
    versions: dict[str, str]
    git: dict[str, Any] | None
    machine: dict[str, Any]
    model: dict[str, Any]
    data: dict[str, Any]
    subset: dict[str, Any]
    seeds: dict[str, int]
    methods: dict[str, Named]
    protocols: dict[str, Named]
    refused: dict[str, str]
    config: Config


def provenance_of(folder: Path, needs: Sequence[str] = ()) -> dict[str, Any]:
    """Return what a run wrote of itself, {} where it wrote nothing.

    needs: parts that it must have. Raises RapbenchError for a file that is broken, or holds something else.
    """
    path = folder / FILE
    if not path.exists():
        if needs:
            raise RapbenchError(f"{folder} holds no {FILE}; name the folder that a run wrote")
        return {}
    try:
        found = read_json(path, Provenance)
    except RapbenchError as error:
        raise RapbenchError(f"{error}; {AGAIN}") from error
    if missing := [part for part in needs if part not in found]:
        raise RapbenchError(f"{path} does not say {missing[0]!r}; {AGAIN}")
    return dict(found)
