"""Objects by what they do: a network's modules with their settings, functions with what they hold, values.

Nothing that changes from one process to the next goes in: no address, no order of a set, no path of a module.
"""

import functools
import hashlib
import inspect
import os
import sys
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from rapbench.fingerprint.modules import MAIN, find

PLAIN = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range, slice)
NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format, Path)
DATA = (*PLAIN, tuple, list, dict, set, frozenset, Enum, Tensor, np.ndarray, *NAMED)
CALLABLE = (types.BuiltinFunctionType, types.MethodWrapperType, types.WrapperDescriptorType,
            types.MethodDescriptorType, types.ClassMethodDescriptorType)  # fmt: skip
# What nn.Module keeps for itself; weights and buffers of the state dict have a hash of their own.
HOOKS = ("hooks", "hooks_with_kwargs", "hooks_always_called")  # by numbers that count over a whole process
OF_MODULES = {"training", "_parameters", "_buffers", "_modules"}
DEEPEST = 60


class Walk:
    """Takes objects into a hash, and notes the modules that their code is in.

    modules: the project's and the user's by their full names, packages by their top names. types: of all networks'
    modules, with the types that they inherit from.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.types: set[type] = set()
        self._digest = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._held: list[Any] = []  # so that no address is used again
        self._depth = 0

    @property
    def sha256(self) -> str:
        """The hash of all that was added so far."""
        return self._digest.hexdigest()

    def add(self, value: Any) -> "Walk":
        """Take an object in, whatever it is, and return self. What cannot be looked into counts by its type."""
        if isinstance(value, PLAIN):
            self._put(type(value).__name__, repr(value))
        elif isinstance(value, NAMED):
            self._put(type(value).__name__, str(value))
        elif isinstance(value, Enum):
            self._put(type(value).__qualname__, value.name)
        elif isinstance(value, (Tensor, np.ndarray)) and not isinstance(value, nn.Parameter):
            self._put("array", *array_parts(value))
        elif id(value) in self._seen:
            self._put("again", str(self._seen[id(value)]))
        elif self._depth > DEEPEST:
            self._put("deep", type(value).__qualname__)
        else:
            self._seen[id(value)] = len(self._seen)
            self._held.append(value)
            self._depth += 1
            self._composite(value)
            self._depth -= 1
        return self

    def _put(self, *parts: str | bytes) -> None:
        for part in parts:
            data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
            self._digest.update(f"{len(data)}:".encode() + data)

    def _composite(self, value: Any) -> None:
        if isinstance(value, nn.Parameter):
            self._put("parameter", *array_parts(value))
        elif isinstance(value, (set, frozenset)):
            self._put("set", *sorted(self._apart(item) for item in value))
        elif isinstance(value, (tuple, list)):
            self._put(type(value).__qualname__, str(len(value)))
            for item in value:
                self.add(item)
        elif isinstance(value, (dict, types.MappingProxyType)):
            self._put(type(value).__qualname__, str(len(value)))
            self._items(value)
        elif isinstance(value, functools.partial):
            self._put("partial")
            self.add(value.func).add(value.args).add(value.keywords)
        elif isinstance(value, types.MethodType):
            self._put("method")
            self.add(value.__func__).add(value.__self__)
        elif isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._put("module", value.__name__)
            self.code_in(value.__name__)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, CALLABLE):
            self._put("built in", value.__qualname__)
            self.code_in(getattr(value, "__module__", None))
        elif isinstance(value, nn.Module):
            self._network(value)
        elif isinstance(value, fx.Graph):
            self._put("graph", str(value))
        else:
            self._object(value)

    def _items(self, items: Mapping[Any, Any]) -> None:
        for key, item in items.items():
            self.add(key).add(item)

    def _apart(self, value: Any) -> str:
        walk = Walk()
        walk.add(value)
        self.modules |= walk.modules
        self.types |= walk.types
        return walk.sha256

    def code_in(self, module: str | None) -> bool:
        """Note a module in which code is; return whether it is the project's or the user's, and has a file."""
        found = find(module) if module else None
        if found is None:
            return False
        if found.own:
            self.modules.add(found.name)
        elif found.installed:
            self.modules.add(found.name.partition(".")[0])
        return found.own

    def _function(self, function: types.FunctionType) -> None:
        home = str(function.__globals__.get("__name__"))
        self._put("function", home, function.__qualname__)
        in_file = _is_in_file(function)
        if not self.code_in(home) and (in_file or home != MAIN):
            return  # a package's: its version counts
        if not in_file or function.__name__ == "<lambda>":  # of a notebook, or one of several on a line
            self._code(function.__code__)
        if not in_file:
            for name in sorted(_names(function.__code__) & function.__globals__.keys()):
                self._put(name)
                self.add(function.__globals__[name])
        self.add(function.__defaults__).add(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                self.add(cell.cell_contents)
            except ValueError:  # not filled yet
                self._put("empty")
        if wrapped := function.__dict__.get("__wrapped__"):
            self.add(wrapped)

    def _code(self, code: types.CodeType) -> None:
        """Take bytecode in: what a function does, without its lines, its comments and its docstring."""
        constants = list(code.co_consts)
        if _is_documented(code):
            constants[0] = None
        self._put("code", code.co_code, *code.co_names, *code.co_varnames, str(code.co_argcount))
        for constant in constants:
            self.add(constant)

    def _class(self, kind: type) -> None:
        self._put("class", kind.__module__, kind.__qualname__)
        for base in kind.__mro__:
            if not self.code_in(base.__module__) and base.__module__ != MAIN:
                continue
            self._put(base.__qualname__)
            for name, value in vars(base).items():
                for part in parts_of(value):
                    written = isinstance(part, types.FunctionType) and not _is_in_file(part) and not _generated(part)
                    if written or (isinstance(part, DATA) and not (name.startswith("__") and name.endswith("__"))):
                        self._put(name)
                        self.add(part)

    def _network(self, module: nn.Module) -> None:
        self._put("network")
        self.types.update(type(module).__mro__)
        self.add(type(module))
        if isinstance(module, torch.jit.ScriptModule):
            self._put(str(module.inlined_graph))
            return
        self._state({name: value for name, value in vars(module).items() if name not in OF_MODULES})
        for name in sorted(module._non_persistent_buffers_set):
            self._put(name)
            self.add(module._buffers[name])
        for name, child in module._modules.items():
            self._put(name)
            self.add(child)

    def _object(self, value: Any) -> None:
        self._put("object")
        self.add(type(value))
        slots = [name for kind in type(value).__mro__ for name in _listed(vars(kind).get("__slots__", ()))]
        state = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
        if not state:
            try:
                state = {"reduced": value.__reduce_ex__(4)}
            except Exception:  # a lock, an open file: nothing to compute with
                state = {}
        self._state(state)

    def _state(self, state: dict[str, Any]) -> None:
        for name, value in sorted(state.items()):
            if name != "__weakref__" and not (isinstance(value, dict) and not value):  # such as hooks, mostly none
                self._put(name)
                self.add(list(value.values()) if name.endswith(HOOKS) and isinstance(value, dict) else value)


def array_parts(value: Tensor | np.ndarray) -> tuple[str, str, bytes]:
    """Return what makes an array: its type, its shape and the SHA-256 of its bytes."""
    if isinstance(value, np.ndarray):
        return str(value.dtype), str(value.shape), hashlib.sha256(np.ascontiguousarray(value).tobytes()).digest()
    try:
        data = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    except (RuntimeError, TypeError, NotImplementedError):  # sparse, quantised, without values
        data = b"" if value.is_meta else repr(value).encode()
    return str(value.dtype), str(tuple(value.shape)), hashlib.sha256(data).digest()


def _is_in_file(function: types.FunctionType) -> bool:
    """Whether a function is written in its module's file, not in a notebook or a text that was executed."""
    found = find(str(function.__globals__.get("__name__")))
    written = os.path.basename(function.__code__.co_filename)
    return found is not None and found.file is not None and written == os.path.basename(found.file)


def _generated(function: types.FunctionType) -> bool:
    """Whether a function was made by a decorator such as dataclass, from fields that count themselves."""
    return function.__code__.co_filename == "<string>" and function.__name__.startswith("__")


def _is_documented(code: types.CodeType) -> bool:
    """Whether the first constant of a function's code is its docstring."""
    if sys.version_info >= (3, 13):
        return bool(code.co_flags & inspect.CO_HAS_DOCSTRING)
    first = code.co_consts[:1]
    return bool(code.co_flags & inspect.CO_OPTIMIZED and first and isinstance(first[0], str) and code.co_name[0] != "<")


def parts_of(value: Any) -> tuple[Any, ...]:
    """Return what a descriptor of a class calls."""
    if isinstance(value, (classmethod, staticmethod)):
        return (value.__func__,)
    if isinstance(value, property):
        return (value.fget, value.fset)
    return (value.func,) if isinstance(value, functools.cached_property) else (value,)


def _names(code: types.CodeType) -> set[str]:
    """Return the names that code looks up, and code inside it."""
    inner = (constant for constant in code.co_consts if isinstance(constant, types.CodeType))
    return set(code.co_names).union(*map(_names, inner))


def _listed(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)
