"""Where modules come from, and the import closure of some of them; nothing is imported to find out."""

import importlib.machinery
import os
import pkgutil
import sys
import sysconfig
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from rapbench.core.package import NAME
from rapbench.fingerprint.packages import distribution_of
from rapbench.fingerprint.source import Source, source_of

PROJECT = NAME
INSTALLED = {"site-packages", "dist-packages"}
MAIN = "__main__"


@dataclass(frozen=True)
class Found:
    """A module's file, none for a namespace; the folders of its submodules, none where it is no package."""

    name: str
    file: str | None
    folders: tuple[str, ...] = ()

    @property
    def own(self) -> bool:
        """Whether its code counts: the project's and the user's files, not the standard library or packages."""
        return _is_own(self.name, self.file)

    @property
    def installed(self) -> bool:
        """Whether it is a package's."""
        return not self.own and self.file is not None and _installed(self.file)


@dataclass
class Closure:
    """The modules that some modules import, in turn, with what they say. missing: roots that are not there."""

    modules: dict[str, str] = field(default_factory=dict)  # name -> file
    sources: dict[str, Source] = field(default_factory=dict)
    packages: set[str] = field(default_factory=set)  # top names of installed packages
    missing: set[str] = field(default_factory=set)


def closure(roots: Iterable[str], read: Callable[[str, str], Source] = lambda _, file: source_of(file)) -> Closure:
    """Return the closure of modules by name, over the project's and the user's own files.

    read: (module, file) -> what it says.
    An own module of the user's may call any entry of a registry that it can reach by its name, so all of those count.
    """
    found = Closure()
    place = cache(find)
    asked: set[str] = set()
    waiting = deque(dict.fromkeys(roots))
    registries: set[str] = set()
    outside = False
    roots = set(waiting)
    while waiting:
        name = waiting.popleft()
        if name in asked:
            continue
        asked.add(name)
        module = place(name)
        if module is None:
            if name in roots:
                found.missing.add(name)
            continue
        if module.file is not None and not module.own:
            found.packages |= {name.partition(".")[0]} if module.installed else set()
            continue
        waiting += [name.rpartition(".")[0]] if "." in name else []
        if module.file is None:
            continue
        source = read(name, module.file)
        found.modules[name], found.sources[name] = module.file, source
        imported = list(_imported(module, source, place))
        waiting += imported
        outside |= not _of_project(name) and any(map(_of_project, imported))
        registries.update(source.registries)
        if outside:
            waiting += [entry for package in registries for entry in entries(package)]
            registries.clear()
    return found


def entries(package: str) -> tuple[str, ...]:
    """Return the modules that a registry's package loads."""
    module = find(package)
    folders = module.folders if module else ()
    return tuple(f"{package}.{info.name}" for info in pkgutil.iter_modules(folders) if not info.name.startswith("_"))


def find(name: str) -> Found | None:
    """Return where a module comes from: as it is loaded, else as an import would find it; None where it has no file."""
    loaded = sys.modules.get(name)
    if file := getattr(loaded, "__file__", None):
        return Found(name, _path(file), tuple(getattr(loaded, "__path__", None) or ()))
    if name == MAIN or _built_in(name):
        return None
    parent = name.rpartition(".")[0]
    above = find(parent) if parent else None
    if parent and (above is None or not above.folders):
        return None
    places = list(above.folders) if above else None
    specs = (finder.find_spec(name, places) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    try:
        spec = next((spec for spec in specs if spec is not None), None)
    except KeyError:  # Python asks a folder without __init__ for its parent, which is not loaded
        last = name.rpartition(".")[2]
        return Found(name, None, tuple(filter(os.path.isdir, (os.path.join(folder, last) for folder in places or ()))))
    if spec is None and not parent:  # as the registry does for a user's modules
        spec = importlib.machinery.PathFinder.find_spec(name, [os.getcwd()])
    if spec is None:
        return None
    return Found(name, _path(spec.origin if spec.has_location else None), tuple(spec.submodule_search_locations or ()))


def _imported(module: Found, source: Source, place: Callable[[str], Found | None]) -> Iterator[str]:
    """Yield the names of the modules that a module's imports may load."""
    package = module.name if module.folders else module.name.rpartition(".")[0]
    for statement in source.imports:
        name = statement.module
        if statement.level:
            above = package.split(".")
            above = above[: len(above) - statement.level + 1]
            name = ".".join([*above, *([name] if name else [])])
        if not name:
            continue
        yield name
        if statement.names and (target := place(name)) and target.folders and (target.file is None or target.own):
            for part in _everything(target) if statement.names == ("*",) else statement.names:
                if (found := place(f"{name}.{part}")) is not None:
                    yield found.name


def _everything(module: Found) -> Iterator[str]:
    yield from (info.name for info in pkgutil.iter_modules(module.folders))


def _path(file: str | None) -> str | None:
    return os.path.abspath(file) if file else None


def _of_project(name: str) -> bool:
    return name == PROJECT or name.startswith(f"{PROJECT}.")


def _is_own(name: str, file: str | None) -> bool:
    if _of_project(name):
        return True
    if file is None:
        return not _built_in(name)
    if _installed(file):
        return distribution_of(name.partition(".")[0]) is None
    return not file.startswith(_standard())


def _installed(file: str) -> bool:
    return not INSTALLED.isdisjoint(file.split(os.sep))


def _built_in(name: str) -> bool:
    return name.partition(".")[0] in sys.stdlib_module_names


@cache
def _standard() -> tuple[str, ...]:
    folders = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")}
    return tuple(folder + os.sep for folder in {*folders, *map(os.path.realpath, folders)})
