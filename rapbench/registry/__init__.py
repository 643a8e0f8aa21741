"""Registries: a name, a function and the facts about it, one file an entry, and families of names made on demand.

An entry of a user's own module, outside the package, is called `module:name`. Looking it up imports the module, which
runs what is written there, so such a name counts where the user gives it: on the command line or in a program. Read
from a file of data, within `names_from`, it is refused unless the user named the module, too.
"""

import dataclasses
import functools
import importlib
import importlib.util
import inspect
import os
import pkgutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from rapbench.core.errors import RapbenchError, did_you_mean, raised

Facts = TypeVar("Facts")
_named: set[str] = set()  # modules that the user named
_source: ContextVar[str | None] = ContextVar("source", default=None)  # the file whose names are being looked up
# Tensors are checked as such, not looked into; no option means anything as NaN or infinity.
_ANY_CLASS = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False)


@contextmanager
def names_from(file: Any) -> Iterator[None]:
    """Within: names that are looked up come from a file of data, and import no module that the user did not name."""
    token = _source.set(str(file))
    try:
        yield
    finally:
        _source.reset(token)


def allow_modules(modules: Iterable[str]) -> None:
    """Note modules that the user names, with all that is below them: files of data may name their entries."""
    _named.update(modules)


@dataclass(frozen=True)
class Entry(Generic[Facts]):
    """A registered function: its name, its options (keyword-only parameters with a default) and its facts."""

    kind: str
    name: str
    function: Callable[..., Any]
    facts: Facts

    @property
    def label(self) -> str:
        """What a run calls it where it is given no label: the name, without the module or the path's folder."""
        return self.name.rpartition(":")[2]

    @property
    def options(self) -> dict[str, Any]:
        """The option names and their defaults."""
        if dataclasses.is_dataclass(self.function):  # whose signature does not tell what a factory makes
            fields, missing = dataclasses.fields(self.function), dataclasses.MISSING
            return {it.name: it.default if it.default_factory is missing else it.default_factory() for it in fields}
        return {name: parameter.default for name, parameter in self._parameters().items()}

    def check(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return `options` over the defaults, each checked against its annotation.

        Raises RapbenchError for an unknown option or a value of the wrong type.
        """
        check_options(self.kind, self.name, self.annotations(), options)
        return self.options | options

    def annotations(self) -> dict[str, Any]:
        """Return the options' annotations, Any for those without one. Raises RapbenchError for what cannot be read."""
        return {name: Any if parameter.annotation is parameter.empty else parameter.annotation
                for name, parameter in self._parameters().items()}  # fmt: skip

    def _parameters(self) -> dict[str, inspect.Parameter]:
        try:
            parameters = inspect.signature(self.function, eval_str=True).parameters
        except Exception as error:  # an annotation is code
            raise RapbenchError(
                f"{self.kind} {self.name!r}: its annotations cannot be read ({error}); name what its file imports"
            ) from error
        return {
            name: parameter
            for name, parameter in parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is not parameter.empty
        }


def check_options(kind: str, entry: str, annotations: dict[str, Any], options: dict[str, Any]) -> None:
    """Raise RapbenchError for an option that is not among the annotated ones, or a value of another type."""
    for name, value in options.items():
        if name not in annotations:
            known = ", ".join(annotations) or "none"
            hint = did_you_mean(name, annotations)
            raise RapbenchError(f"{kind} {entry!r} has no option {name!r}{hint}; its options: {known}")
        try:
            TypeAdapter(annotations[name], config=_ANY_CLASS).validate_python(value, strict=True)
        except (ValidationError, RecursionError) as error:
            reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else "it is nested too deeply"
            raise RapbenchError(f"{kind} {entry!r}: option {name}={value!r:.100}: {reason}") from None


@dataclass(frozen=True)
class Family(Generic[Facts]):
    """Entries that another library names: known() lists the names, facts(name) what is to be known of one.

    title: how the family is listed. function: takes the name, then the options.
    """

    title: str
    known: Callable[[], list[str]]
    facts: Callable[[str], Facts]
    function: Callable[..., Any]


class Registry(Generic[Facts]):
    """Names to entries. The built-in ones are the public modules of `package`, imported at the first look-up."""

    def __init__(
        self,
        kind: str,
        package: str,
        facts: Callable[[str, Any, dict[str, Any]], Facts],
        outside: Callable[[str, Callable[..., Any]], Callable[..., Any]] | None = None,
    ):
        """Take what the entries are, and the package of the built-in ones.

        facts: (name, function, what is stated of it) -> its facts; raises RapbenchError for what cannot be. outside:
        makes an entry's function of what a user's module calls `module:name`, registered or not; without it only what
        is registered is an entry.
        """
        self.kind = kind
        self.package = package
        self.outside = outside
        self._facts = facts
        self._entries: dict[str, Entry[Facts]] = {}
        self._families: dict[str, Family[Facts]] = {}
        self._prefixes: dict[str, Callable[[str], Entry[Facts]]] = {}
        self._loaded = False

    def register(self, name: str, **facts: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that enters a function under `name`, with facts for the runner and the reports."""

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            known = self._entries.get(name)
            if known and home_of(known.function) != home_of(function):
                raise RapbenchError(f"{self.kind} {name!r} is registered already, by {home_of(known.function)}")
            self._entries[name] = Entry(self.kind, name, function, self._facts(name, function, facts))
            return function

        return enter

    def family(
        self, title: str, known: Callable[[], list[str]], facts: Callable[[str], Facts]
    ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Return a decorator that enters a function of a name for all the names that `known` lists."""

        def enter(function: Callable[..., Any]) -> Callable[..., Any]:
            self._families[title] = Family(title, known, facts, function)
            return function

        return enter

    def prefix(self, word: str, entry: Callable[[str], Entry[Facts]]) -> None:
        """Let `word:anything` be what `entry` makes of that whole name; no module is asked for it."""
        self._prefixes[word] = entry

    def __getitem__(self, name: str) -> Entry[Facts]:
        """Return the entry called `name`, or what a module enters as `module:name`; RapbenchError lists known names."""
        if self._at_hand(name):
            return self._entries[name]
        self._load()
        if name in self._entries:
            return self._entries[name]
        if (word := name.partition(":")[0]) in self._prefixes and ":" in name:
            return self._prefixes[word](name)
        if ":" in name:
            return self._outside(name)
        families = self._families.values()
        for family in families:
            if name in family.known():
                return Entry(self.kind, name, functools.partial(family.function, name), family.facts(name))
        every = {*self._entries, *(known for family in families for known in family.known())}
        hint = did_you_mean(name, every)
        raise RapbenchError(f"unknown {self.kind} {name!r}{hint}; known: {', '.join([*self, *self._families])}")

    def __contains__(self, name: object) -> bool:
        if isinstance(name, str) and self._at_hand(name):
            return True
        self._load()
        return name in self._entries or any(name in family.known() for family in self._families.values())

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._entries))

    def outside_names(self) -> list[str]:
        """Return the names that other libraries have for what they offer, all of them."""
        self._load()
        return [name for family in self._families.values() for name in family.known()]

    def _outside(self, place: str) -> Entry[Facts]:
        """Return what a module, installed or of the working directory, enters; its name says where it is from."""
        module, _, name = place.partition(":")
        self._refuse_unnamed(module, place)
        _import(module, f"{self.kind} {place!r}")
        own = {entry.name: entry for entry in self._entries.values()
               if f"{home_of(entry.function)}.".startswith(f"{module}.")}  # fmt: skip
        entry = own.get(name) or self._plain(module, name)
        if entry is None:
            registers = ", ".join(own) or "none"
            nor = "" if self.outside is None else "; it has no function or class of that name, either"
            raise RapbenchError(f"unknown {self.kind} {place!r}: those that {module} registers: {registers}{nor}")
        function = entry.function if self.outside is None else self.outside(place, entry.function)
        return replace(entry, name=place, function=function)

    def _plain(self, module: str, name: str) -> Entry[Facts] | None:
        """Return an entry for a function or class that a user's module has without registering it.

        Named by a file of data it must be the module's own, and not what it imports.
        """
        found = getattr(sys.modules[module], name, None) if self.outside else None
        if not callable(found) or not hasattr(found, "__module__"):
            return None
        if _source.get() is not None and not f"{home_of(found)}.".startswith(f"{module}."):
            return None
        return Entry(self.kind, name, found, self._facts(name, found, {}))

    def _refuse_unnamed(self, module: str, place: str) -> None:
        file = _source.get()
        if file is None:
            _named.add(module)
        elif not any(f"{module}.".startswith(f"{named}.") for named in _named):
            raise RapbenchError(
                f"{file} names the {self.kind} {place!r}, and a module that only a file names is not imported, as that "
                f"would run it; if you trust it, add --allow-module {module}"
            )

    def _at_hand(self, name: str) -> bool:
        """Whether a name is entered once the one module of the package that is called so is imported.

        Most are, and the other modules, with the libraries that they need, are not waited for.
        """
        if name not in self._entries and name.isidentifier() and not name.startswith("_"):
            module = f"{self.package}.{name}"
            if importlib.util.find_spec(module) is not None:
                importlib.import_module(module)
        return name in self._entries

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        package = importlib.import_module(self.package)
        for module in pkgutil.iter_modules(package.__path__):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")


def as_stated(name: str, made: Any, facts: dict[str, Any]) -> dict[str, Any]:
    """Return facts unchecked, for a registry in which only the package's own modules state any."""
    return facts


def home_of(function: Callable[..., Any]) -> str:
    """Return the name of the module that a function is from: of a partial its function's, of an object its class's."""
    while isinstance(function, functools.partial):
        function = function.func
    return function.__module__


def _import(module: str, wanted: str) -> None:
    """Import a user's module; RapbenchError says what `wanted` needs it, and where it fails."""
    if (here := os.getcwd()) not in sys.path:
        sys.path.append(here)  # last, so that nothing of the same name gives way to it
    try:
        importlib.import_module(module)
    except RapbenchError:
        raise
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
            raise RapbenchError(f"{wanted}: there is no module {module!r}, neither installed nor in {here}") from error
        if isinstance(error, (ValueError, TypeError)) and not module.strip("."):
            raise RapbenchError(f"{wanted}: name a module before the colon, as in my_methods:my_method") from error
        raise RapbenchError(f"{wanted}: importing {module} fails: {raised(error)}") from error
