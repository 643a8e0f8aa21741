"""The fingerprint of all code that some objects run: what they hold, and the import closure of where it is written."""

import hashlib
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rapbench.fingerprint.loaded import as_loaded
from rapbench.fingerprint.modules import MAIN, PROJECT, Closure, closure, find
from rapbench.fingerprint.objects import Walk
from rapbench.fingerprint.packages import versions


@dataclass(frozen=True)
class Code:
    """roots: the modules that the objects' code is in. sha256: of the closure. objects: of what they hold."""

    roots: tuple[str, ...]
    sha256: str
    objects: str
    versions: dict[str, str]

    @property
    def key(self) -> dict[str, Any]:
        """What goes into a result's key; the versions of several are one entry there."""
        return {"roots": list(self.roots), "sha256": self.sha256, "objects": self.objects}


def code_of(*objects: Any, types: set[type] | None = None) -> Code:
    """Return the fingerprint of objects' code.

    What a user has added to the project's tables (a relevance rule), or put in the place of a function, counts too.
    What counts of a module that was changed after it was imported is what is loaded.

    Parameters
    ----------
    *objects : Any
        Functions, classes, instances, modules.
    types : set of types, optional
        Of the network's modules; what a table holds for another type of the user's own does not count.
    """
    walk = Walk()
    for value in objects:
        walk.add(value)
    looked_at: set[str] = set()
    while True:
        found = closure(walk.modules, as_loaded)
        new = found.sources.keys() - looked_at
        looked_at |= new
        before = set(walk.modules)
        for name in sorted(new):
            for what, value in [*_added(name, types), *_replaced(name, found.sources[name].names)]:
                walk.add(what).add(value)
        if walk.modules == before:
            break
    return Code(tuple(sorted(walk.modules)), digest_of(found), walk.sha256, versions(found.packages))


def digest_of(found: Closure) -> str:
    """Return the hash of a closure's code."""
    digest = hashlib.sha256()
    for name, source in sorted(found.sources.items()):
        digest.update(f"{name} {source.digest}\n".encode())
    return digest.hexdigest()


def is_stale(roots: tuple[str, ...], sha256: str, then: tuple[tuple[str, str], ...]) -> bool | None:
    """Whether code by its fingerprint is other than what is here now; nothing is imported.

    then: packages and their versions at that time. None where a module of the user's own is not found from here.
    """
    found = closure(roots)
    if any(name.partition(".")[0] == PROJECT for name in found.missing):
        return True
    if found.missing:
        return None
    now = versions(found.packages)
    return digest_of(found) != sha256 or not now.items() <= dict(then).items()


def _added(module: str, wanted: set[type] | None) -> Iterator[tuple[str, Any]]:
    """Yield what users' code has added to the tables of a module of the project."""
    if module.split(".")[0] != PROJECT or module not in sys.modules:
        return
    for name, table in list(vars(sys.modules[module]).items()):
        if name.startswith("__") or not isinstance(table, (Mapping, set)):
            continue
        pairs = list(table.items()) if isinstance(table, Mapping) else [(member, None) for member in table]
        for key, value in sorted(pairs, key=lambda pair: str(getattr(pair[0], "__qualname__", pair[0]))):
            if not (_users(key) or _users(value)):
                continue
            if wanted is not None and isinstance(key, type) and _users(key) and key not in wanted:
                continue
            yield f"{module}.{name}", (key, value)


def _replaced(module: str, names: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the functions and classes of a module in whose place something else has been put."""
    if module not in sys.modules:
        return
    for name in names:
        kind, _, method = name.partition(".")
        value = vars(sys.modules[module]).get(kind)
        value = vars(value).get(method) if method and isinstance(value, type) else None if method else value
        home = value.__globals__.get("__name__") if isinstance(value, types.FunctionType) else (
            getattr(value, "__module__", None))  # fmt: skip
        if isinstance(home, str) and home != module and not _wraps(value, module):
            yield f"{module}.{name}", value


def _wraps(value: Any, module: str) -> bool:
    """Whether an object is a decorator's, around a function of the module itself."""
    return getattr(getattr(value, "__wrapped__", None), "__module__", None) == module


def _users(value: Any) -> bool:
    """Whether an object's code is a user's own."""
    home = getattr(value, "__globals__", {}).get("__name__") if isinstance(value, types.FunctionType) else (
        value.__module__ if isinstance(value, type) else None)  # fmt: skip
    if home is None or home.split(".")[0] == PROJECT:
        return False
    found = find(home)
    return home == MAIN or (found is not None and found.own)
