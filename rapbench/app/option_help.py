"""Settings and options for a reader of the command line: the default, what it may be instead, and what it means."""

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, PydanticSchemaGenerationError, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

WIDTH = 100
KINDS = {"integer": "a whole number", "number": "a number", "string": "text", "boolean": "true or false",
         "null": "null", "object": "a mapping"}  # fmt: skip
BOUNDS = {"minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}",
          "exclusiveMaximum": "below {}"}  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """A setting as it is shown. default: as in YAML. allowed: in words, empty where nothing is known."""

    name: str
    default: str
    allowed: str = ""
    meaning: str = ""

    def lines(self, indent: str = "  ") -> Iterator[str]:
        """Yield the default and what is allowed on one line, and the meaning below."""
        head = f"{self.name} = {self.default}"
        yield from wrapped(f"{head:<34s}  {self.allowed}".rstrip(), indent, indent + " " * 6)
        yield from wrapped(self.meaning, indent + " " * 4)


def wrapped(text: str, indent: str, hanging: str | None = None) -> list[str]:
    """Return a text's lines of at most `WIDTH` characters; none for an empty one. hanging: the later lines' indent."""
    return textwrap.wrap(text, WIDTH, initial_indent=indent, break_on_hyphens=False, break_long_words=False,
                         subsequent_indent=indent if hanging is None else hanging)  # fmt: skip


def in_yaml(value: Any) -> str:
    """Return a value on one line, as it is written on the command line; what stands for another setting in <>."""
    text = value if isinstance(value, str) else json.dumps(value, default=str).replace('"', "")
    return re.sub(r"\$\{([\w.]+)\}", r"<\1>", text)


def allowed(annotation: Any) -> str:
    """Return in words what a value of an annotation may be; empty for anything, and for what has no plain words."""
    try:
        schema = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True)).json_schema()
    except (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema):
        return ""
    return ", or ".join(sorted(_words(schema, schema.get("$defs", {})), key="null".__eq__))


def _words(schema: dict[str, Any], known: dict[str, Any]) -> list[str]:
    if place := schema.get("$ref"):
        return _words(known[place.rpartition("/")[2]], known)
    if "anyOf" in schema:
        return [word for part in schema["anyOf"] for word in _words(part, known)]
    if "enum" in schema or "const" in schema:
        return [", ".join(map(in_yaml, schema.get("enum", [schema.get("const")])))]
    if schema.get("type") == "array":
        return ["a list"]
    word = KINDS.get(schema.get("type", ""), "")
    bounds = [said.format(schema[bound]) for bound, said in BOUNDS.items() if bound in schema]
    return [", ".join([word, *bounds])] if word else []
