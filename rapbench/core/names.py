"""Names that users give to models, data and classes: text on one line, which every table and page can hold."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rapbench.core.errors import RapbenchError
from rapbench.core.reading import CONTROL, is_text, lines_of, read_text
from rapbench.core.tensors import what_is

LONGEST = 200  # characters


def checked_name(name: Any, what: str = "name") -> str:
    """Return a name; RapbenchError for what is no text on one line."""
    if not isinstance(name, str) or CONTROL.search(name) or not is_text(name) or len(name) > LONGEST:
        raise RapbenchError(f"{what}={name!r:.60} is not a name: give text on one line, up to {LONGEST} characters")
    return name


def class_names_of(given: Any) -> tuple[str, ...]:
    """Return class names in the order of the class indices, from a list or a text file with one a line.

    Raises RapbenchError for what is neither, and for an empty name.
    """
    if isinstance(given, (str, Path)):
        lines = [line.strip() for line in lines_of(read_text(Path(given).expanduser(), what="class_names:"))]
        while lines and not lines[-1]:
            lines.pop()
        if not lines:
            raise RapbenchError(f"class_names: {given} is empty; write one name a line")
        given = lines
    if not isinstance(given, Iterable) or isinstance(given, (bytes, dict, set)):
        raise RapbenchError(f"class_names must be a list of names or a text file with one a line, got {what_is(given)}")
    names = tuple(given)
    for index, name in enumerate(names):
        if not checked_name(name, f"class_names[{index}]").strip():
            raise RapbenchError(f"class_names[{index}] is empty; every class needs a name")
    return names
