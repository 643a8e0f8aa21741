"""Methods and protocols as a program gives them: by name, as objects, with options, under labels."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from rapbench.core.errors import RapbenchError
from rapbench.core.names import checked_name
from rapbench.evaluation.choice import Choice
from rapbench.heatmaps import Heatmaps
from rapbench.methods import method_of
from rapbench.methods.heatmaps import ReadyMade
from rapbench.protocols import protocols
from rapbench.protocols.base.protocol import Protocol, check_protocol
from rapbench.registry import Entry


def given_methods(given: Any) -> list[Choice]:
    """Return methods: names, functions, Heatmaps, or (one of these, options); by label in a mapping.

    Raises RapbenchError for what is none, and where two have one label.
    """
    return _given("method", given, _method)


def given_protocols(given: Any) -> list[Choice]:
    """Return protocols: names, classes, instances, or (name or class, options); by label in a mapping.

    Raises RapbenchError for what is none, and where two have one label.
    """
    return _given("protocol", given, _protocol)


def _given(kind: str, given: Any, entry_of: Callable[[Any], tuple[Entry[Any], dict[str, Any]]]) -> list[Choice]:
    pairs: Iterable[tuple[str | None, Any]]
    if isinstance(given, Mapping):
        pairs = given.items()
    else:
        several = isinstance(given, (list, set)) or (isinstance(given, tuple) and not _has_options(given))
        pairs = [(None, one) for one in (given if several else [given])]
    found: dict[str, Choice] = {}
    for label, one in pairs:
        what, options = one if _has_options(one) else (one, {})
        entry, own = entry_of(what)
        if not all(isinstance(option, str) for option in options):
            raise RapbenchError(f"the options of {kind} {entry.name!r} must be named by texts, got {options!r:.100}")
        options = own | options
        entry.check(options)
        name = checked_name(entry.label if label is None else label, f"a {kind}'s label")
        if not name.strip():
            raise RapbenchError(f"a {kind}'s label is empty")
        if name in found:
            raise RapbenchError(f"two {kind}s are called {name!r}; give them labels: {kind}s={{'a': ..., 'b': ...}}")
        found[name] = Choice(name, entry, options)
    if not found:
        raise RapbenchError(f"name a {kind} at least")
    return list(found.values())


def _has_options(one: Any) -> bool:
    return isinstance(one, tuple) and len(one) == 2 and isinstance(one[1], dict)


def _method(what: Any) -> tuple[Entry[Any], dict[str, Any]]:
    if isinstance(what, Heatmaps):
        return ReadyMade.of(what), {}
    return method_of(what), {}


def _protocol(what: Any) -> tuple[Entry[Any], dict[str, Any]]:
    if isinstance(what, str):
        return protocols[what], {}
    kind = what if isinstance(what, type) else type(what)
    if not issubclass(kind, Protocol):
        raise RapbenchError(f"a protocol is a name, or a class derived from rapbench.Protocol, got {what!r:.100}")
    known = next((protocols[name] for name in protocols if protocols[name].function is kind), None)
    if known is None:
        check_protocol(kind.__name__, kind)
        known = Entry("protocol", kind.__name__, kind, None)
    if isinstance(what, type):
        return known, {}
    return known, {field.name: getattr(what, field.name) for field in dataclasses.fields(what)}
