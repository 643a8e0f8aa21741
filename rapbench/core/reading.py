"""Text, JSON and YAML files that others may have written: what is wrong with one is a RapbenchError that names it."""

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from rapbench.core.errors import RapbenchError

# Bytes. A file beyond these is not what it should be, and would take memory many times its size.
MOST = {"text": 64 << 20, "JSON": 16 << 20, "YAML": 2 << 20}
CONTROL = re.compile(r"[\x00-\x1f\x7f]")  # what no name on one line holds
MOST_NODES = 200_000  # of a YAML document, with every alias in full
# CSafeLoader is SafeLoader ten times as fast, where libyaml is there.
Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_text(path: Path, *, what: str = "", most: int = MOST["text"]) -> str:
    """Return a UTF-8 file's text, without the byte order mark that spreadsheets put before it.

    Parameters
    ----------
    path : Path
        The file.
    what : str
        The kind of file, for the message.
    most : int
        Bytes that it may have.

    Raises
    ------
    RapbenchError
        For what is not a file, not readable, not UTF-8, or larger than `most`.
    """
    name = f"{what} {path}".strip()
    try:
        if not path.is_file():  # nor a pipe, which would be waited for
            raise RapbenchError(f"{name} is not a file")
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise RapbenchError(f"{name} cannot be read ({error.strerror or error})") from error
    if len(data) > most:
        raise RapbenchError(f"{name} is larger than {most >> 20} MB; is it the right file?")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RapbenchError(
            f"{name} is not UTF-8 text (byte 0x{data[error.start]:02x} in line {line}); is it the right file? If so, "
            "save it as UTF-8"
        ) from error


def is_text(name: str) -> bool:
    """Whether a name can be written as UTF-8; what Python makes of a file name in another encoding cannot."""
    return name.isascii() or not any("\ud800" <= character <= "\udfff" for character in name)


def lines_of(text: str) -> Iterator[str]:
    """Yield a text's lines without their ends, whichever system wrote them."""
    return (line.rstrip("\n") for line in io.StringIO(text, newline=None))


def read_json(path: Path, kind: Any) -> Any:
    """Return what a JSON file holds, of the type `kind` as pydantic understands it.

    Raises RapbenchError for a file that cannot be read, is not JSON, or holds something else: it names the place.
    """
    text = read_text(path, most=MOST["JSON"])
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RapbenchError(f"{path} cannot be read as JSON ({_reason(error)})") from error
    return _of(kind, found, path)


def read_yaml(path: Path, kind: Any) -> Any:
    """Return what a YAML file holds, as `read_json` does."""
    text = read_text(path, most=MOST["YAML"])
    try:
        found = parse_yaml(text)
    except ValueError as error:
        raise RapbenchError(f"{path} cannot be read as YAML ({error})") from error
    return _of(kind, found, path)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds. Raises ValueError, with the reason in one line, also for aliases without end."""
    try:
        node = yaml.compose(text, Loader)
        if node is not None and _expanded(node, {}) > MOST_NODES:
            raise ValueError(f"more than {MOST_NODES:,} values, aliases counted in full")
        return yaml.load(text, Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(_reason(error)) from error


def _expanded(node: yaml.Node, known: dict[int, int]) -> int:
    """Return how many nodes a node stands for, aliases in full; known: those of nodes that were counted."""
    if (count := known.get(id(node))) is not None:
        if not count:
            raise ValueError("an alias within what it stands for")
        return count
    known[id(node)] = 0  # begun
    children: list[yaml.Node] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    known[id(node)] = 1 + sum(_expanded(child, known) for child in children)
    return known[id(node)]


def _of(kind: Any, found: Any, path: Path) -> Any:
    try:
        TypeAdapter(kind).validate_python(found, strict=True)
        return found
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise RapbenchError(f"{path}{f', {place}' if place else ''}: {first['msg']}") from error
    except RecursionError as error:
        raise RapbenchError(f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split())[:300] or type(error).__name__
