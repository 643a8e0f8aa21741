"""Versions of installed packages: what code imports, and of what that requires, all that computes with arrays."""

import functools
import importlib.metadata
import platform
import re
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError

ARRAYS = {"numpy", "torch"}


def versions(modules: Iterable[str]) -> dict[str, str]:
    """Return the versions behind modules by their top names, by distribution; Python's too.

    Of what they require in turn, only distributions count that require NumPy or PyTorch themselves: what cannot hold an
    array cannot move a number.
    """
    direct = {found for name in modules if (found := distribution_of(name))}
    behind = {name for start in direct for name in _required(start) if name in ARRAYS or ARRAYS & _required(name)}
    return {name: _version(name) for name in sorted(direct | behind)} | {"python": platform.python_version()}


@functools.cache
def distribution_of(module: str) -> str | None:
    """Return the distribution that installs a top-level module, by its normalised name; None for no distribution."""
    if _distribution(module) is not None:
        return _normalised(module)
    if (listed := _listed().get(module)) is not None:
        return listed
    names = importlib.metadata.packages_distributions().get(module)  # half a second: it reads every list of files
    return _normalised(names[0]) if names else None


@functools.cache
def _listed() -> dict[str, str]:
    """Return module -> distribution as far as distributions say so in a file of their own."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        modules = (distribution.read_text("top_level.txt") or "").split()
        names = _fields(distribution, "Name") if modules else []
        found |= {module: _normalised(name) for module in modules for name in names}
    return found


@functools.cache
def _required(name: str) -> set[str]:
    """Return the installed distributions that one requires, in turn; not what its extras require."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        distribution = _distribution(waiting.pop())
        for line in _fields(distribution, "Requires-Dist") if distribution else []:
            if match := re.match(r"[\w.-]+(?!.*;.*\bextra\s*==)", line):
                required = _normalised(match[0])
                if required not in found and _distribution(required):
                    found.add(required)
                    waiting.append(required)
    return found


@functools.cache
def _distribution(name: str) -> Distribution | None:
    try:
        return importlib.metadata.distribution(name)
    except (PackageNotFoundError, ValueError):
        return None


def _fields(distribution: Distribution, name: str) -> list[str]:
    """Return a metadata field's values; the e-mail parser of the standard library takes ten times as long."""
    text = (distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or "").partition("\n\n")[0]
    return re.findall(rf"^{name}: (.*)$", text, re.MULTILINE)


@functools.cache
def _version(name: str) -> str:
    if name == "torch":
        import torch

        return str(torch.__version__)  # with its build
    return importlib.metadata.version(name)


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
