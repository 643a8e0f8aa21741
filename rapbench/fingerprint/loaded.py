"""What a loaded module was made from, where its file has changed since: in a notebook, or in a sweep of hours."""

import ast
import functools
import os
import sys
import types
from collections.abc import Iterator
from typing import Any

from rapbench.core import package
from rapbench.core.errors import RapbenchError
from rapbench.fingerprint.objects import Walk, parts_of
from rapbench.fingerprint.source import Source, said_in, source_of, texts_of

SLACK = 2.0  # seconds between the clocks of a disk and of a machine


def as_loaded(name: str, file: str) -> Source:
    """Return what a module says, as it runs. Raises RapbenchError where its file has changed and nobody knows how."""
    module = sys.modules.get(name)
    if module is None or not file.endswith(".py"):
        return source_of(file)
    texts = texts_of(file)
    old = os.stat(file).st_mtime < package.IMPORTED - SLACK
    if old and len(texts) == 1:
        return source_of(file)
    for text in texts:
        if _agrees(text, module, file):
            return said_in(text)
    raise RapbenchError(f"{file} was changed after it was imported; start again, so that what runs is what it says")


def _agrees(text: bytes, module: types.ModuleType, file: str) -> bool:
    """Whether a module's functions and constants are those of a text."""
    try:
        written, constants = _written(text)
    except SyntaxError:
        return False
    loaded = vars(module)
    for function in _functions(loaded, file):
        if _digest(function.__code__) not in written.get(function.__code__.co_qualname, ()):
            return False
    return all(name not in loaded or (type(loaded[name]), loaded[name]) == (type(value), value)
               for name, value in constants)  # fmt: skip


@functools.cache
def _written(text: bytes) -> tuple[dict[str, set[str]], list[tuple[str, Any]]]:
    """Return the hashes of a text's functions by their qualified names, and the constants at its top."""
    tree = ast.parse(text)
    constants = []
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper():
            try:
                constants.append((node.targets[0].id, ast.literal_eval(node.value)))
            except (ValueError, TypeError):  # no literal
                continue
    found: dict[str, set[str]] = {}
    waiting = [compile(text, "", "exec", dont_inherit=True)]
    while waiting:
        code = waiting.pop()
        inner = [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
        waiting += inner
        for part in inner:
            found.setdefault(part.co_qualname, set()).add(_digest(part))
    return found, constants


def _functions(loaded: dict[str, Any], file: str) -> Iterator[types.FunctionType]:
    """Yield the functions of a module and of its classes that are written in its file, also inside decorators."""
    classes = [value for value in loaded.values() if isinstance(value, type) and value.__module__ == loaded["__name__"]]
    waiting = [*loaded.values(), *(value for kind in classes for value in vars(kind).values())]
    for value in waiting:
        for part in parts_of(value):
            while hasattr(part, "__wrapped__"):
                part = part.__wrapped__
            if isinstance(part, types.FunctionType) and os.path.abspath(part.__code__.co_filename) == file and (
                part.__globals__ is loaded):  # fmt: skip
                yield part


def _digest(code: types.CodeType) -> str:
    return Walk().add(code).sha256
