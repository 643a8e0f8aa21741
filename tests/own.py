"""Modules of a user's own in a test: written, loaded anew, and forgotten afterwards."""

import importlib
import itertools
import sys
from pathlib import Path
from types import ModuleType

import pytest

_numbers = itertools.count()


class Own:
    """A working directory with modules. Names must begin with `own`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        """Make a folder the working directory, from which modules are imported."""
        monkeypatch.chdir(folder)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        self.folder = folder
        self.forget()

    def package(self, **modules: str) -> str:
        """Write a package with modules under a new name, which is returned."""
        name = f"own_package_{next(_numbers)}"
        for module, text in ({"__init__": ""} | modules).items():
            self.write(f"{name}/{module}.py", text)
        return name

    def write(self, file: str, text: str) -> Path:
        """Write a module's file."""
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def load(self, module: str) -> ModuleType:
        """Import a module as a new process would."""
        self.forget()
        importlib.invalidate_caches()
        return importlib.import_module(module)

    def forget(self) -> None:
        """Take all of a user's modules out of the process."""
        for name in [name for name in sys.modules if name.startswith("own")]:
            del sys.modules[name]
