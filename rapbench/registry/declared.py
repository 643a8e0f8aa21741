"""The options of built-in entries as their sources declare them, read without importing torch or anything of theirs.

A misspelt option or value is then named in a second rather than after all libraries are loaded. What cannot be read
this way (entries of another library's, of a user's module) is checked once imported, by the same `check_options`.
"""

import ast
import builtins
import contextlib
import functools
import importlib
from dataclasses import dataclass
from typing import Any

from rapbench.core.package import FOLDER
from rapbench.registry import check_options

LIGHT = ("typing", "pydantic", "collections.abc")  # whose names annotations may use


class Unknown(Exception):
    """An annotation that takes an import to understand."""


def check_declared(kind: str, package: str, name: str, options: dict[str, Any]) -> None:
    """Raise RapbenchError for an unknown option of a built-in entry, or a value that its annotation does not allow.

    package: of the registry, such as rapbench.methods. Nothing is said of entries and annotations that are not known.
    """
    known = declared_options(package).get(name)
    if known is not None:
        check_options(kind, name, known, options)


@dataclass(frozen=True)
class Declared:
    """What a file states of an entry. options: with their annotations, Any where that takes an import to understand.

    source: the first line of the file's docstring. facts: those stated as plain values when it is registered.
    """

    options: dict[str, Any]
    source: str
    facts: dict[str, Any]


@functools.cache
def declared(package: str) -> dict[str, Declared]:
    """Return what the files of a registry's package state of each built-in entry."""
    found = {}
    for path in sorted(FOLDER.joinpath(*package.split(".")[1:]).glob("[!_]*.py")):
        module = f"{package}.{path.stem}"
        tree = _tree(module)
        source = (ast.get_docstring(tree) or "").partition("\n")[0]
        for entry in tree.body:
            if isinstance(entry, (ast.FunctionDef, ast.ClassDef)) and (call := _registration(entry)):
                options = _keywords(entry, module) if isinstance(entry, ast.FunctionDef) else _fields(entry, module)
                found[_name(call)] = Declared(options, source, _facts(call))
    return found


def declared_options(package: str) -> dict[str, dict[str, Any]]:
    """Return each built-in entry's options with their annotations; Any for those that cannot be read."""
    return {name: entry.options for name, entry in declared(package).items()}


def declared_titles() -> dict[str, str]:
    """Return what the tables call each built-in method: the title that its file states when it registers it."""
    stated = {name: entry.facts.get("title") for name, entry in declared("rapbench.methods").items()}
    return {name: title for name, title in stated.items() if title}


def _keywords(function: ast.FunctionDef, module: str) -> dict[str, Any]:
    """Return a function's options: its keyword-only parameters with a default."""
    arguments = function.args
    return {
        argument.arg: _annotation(argument.annotation, module)
        for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if default is not None
    }


def _fields(made: ast.ClassDef, module: str) -> dict[str, Any]:
    """Return a dataclass' fields with their annotations, those of the classes of this package that it extends too."""
    found: dict[str, Any] = {}
    for base in made.bases:
        if isinstance(base, ast.Name) and (where := _class_called(base.id, module)):
            found |= _fields(*where)
    for statement in (it for it in made.body if isinstance(it, ast.AnnAssign)):
        if isinstance(statement.target, ast.Name) and not ast.unparse(statement.annotation).startswith("ClassVar"):
            found[statement.target.id] = _annotation(statement.annotation, module)
    return found


def _class_called(name: str, module: str) -> tuple[ast.ClassDef, str] | None:
    """Return the class that a name at the top of a module of this package means, and its own module."""
    for statement in _tree(module).body:
        if isinstance(statement, ast.ClassDef) and statement.name == name:
            return statement, module
        if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("rapbench."):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _class_called(alias.name, str(statement.module))
    return None


def _registration(entry: ast.FunctionDef | ast.ClassDef) -> ast.Call | None:
    """Return the call of the decorator that registers an entry under a plain name."""
    for decorator in entry.decorator_list:
        if isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Attribute) and decorator.args:
            known = decorator.func.attr in ("register", "register_method")
            if known and isinstance(decorator.args[0], ast.Constant):
                return decorator
    return None


def _name(call: ast.Call) -> str:
    (name,) = (node.value for node in call.args[:1] if isinstance(node, ast.Constant))
    return str(name)


def _facts(call: ast.Call) -> dict[str, Any]:
    found = {}
    for stated in call.keywords:
        with contextlib.suppress(ValueError):  # a function, or another library's constant
            found[str(stated.arg)] = ast.literal_eval(stated.value)
    return found


def _annotation(node: ast.expr | None, module: str) -> Any:
    try:
        found = Any if node is None else _value(node, module)
    except (Unknown, TypeError):
        return Any
    return Any if isinstance(found, str) else found  # a name in quotes, of what comes later


def _value(node: ast.expr, module: str) -> Any:
    """Return what an annotation means in a module: names, subscripts, unions, constants and tuples of them."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return _named(node.id, module)
        case ast.Tuple():
            return tuple(_value(element, module) for element in node.elts)
        case ast.Subscript():
            return _value(node.value, module)[_value(node.slice, module)]
        case ast.BinOp(op=ast.BitOr()):
            return _value(node.left, module) | _value(node.right, module)
    raise Unknown


def _named(name: str, module: str) -> Any:
    """Return what a name means at the top of a module of this package."""
    for statement in _tree(module).body:
        if isinstance(statement, ast.ImportFrom):
            for alias in statement.names:
                if (alias.asname or alias.name) == name:
                    return _imported(alias.name, statement.module or "")
        elif isinstance(statement, ast.Assign) and name in {t.id for t in statement.targets if isinstance(t, ast.Name)}:
            return _value(statement.value, module)
    if hasattr(builtins, name):
        return getattr(builtins, name)
    raise Unknown


def _imported(name: str, module: str) -> Any:
    if module in LIGHT:
        return getattr(importlib.import_module(module), name)
    if module.startswith("rapbench."):
        return _named(name, module)
    raise Unknown


@functools.cache
def _tree(module: str) -> ast.Module:
    path = FOLDER.joinpath(*module.split(".")[1:])
    file = path.with_suffix(".py")
    return ast.parse((file if file.is_file() else path / "__init__.py").read_bytes())
