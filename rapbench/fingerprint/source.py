"""A Python file's code: a hash that comments, docstrings and formatting do not change, and what it imports."""

import ast
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DEFINITIONS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
DOCUMENTED = (ast.Module, *DEFINITIONS)


@dataclass(frozen=True)
class Import:
    """An import statement. level: dots before the module. names: what is taken from it; none for a plain import."""

    level: int
    module: str
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """What a file says. digest: of its code. registries: packages whose modules a Registry imports by name."""

    digest: str
    imports: tuple[Import, ...] = ()
    registries: tuple[str, ...] = ()
    names: tuple[str, ...] = ()  # functions, classes and Class.method defined at its top


def source_of(path: str) -> Source:
    """Return what a file says, read anew where it has changed; OSError when it cannot be read."""
    stat = os.stat(path)
    return said_in(_read(path, stat.st_mtime_ns, stat.st_size), path.endswith((".py", ".pyw")))


def texts_of(path: str) -> tuple[bytes, ...]:
    """Return all that a file has held since it was first read, the latest first."""
    stat = os.stat(path)
    latest = _read(path, stat.st_mtime_ns, stat.st_size)
    return (latest, *(text for text in reversed(_TEXTS[path]) if text != latest))


_TEXTS: dict[str, list[bytes]] = {}


@cache
def _read(path: str, time: int, size: int) -> bytes:
    data = Path(path).read_bytes()
    _TEXTS.setdefault(path, []).append(data)
    return data


@cache
def said_in(data: bytes, python: bool = True) -> Source:
    """Return what a text says; what is not Python's, such as a compiled module, has the hash of its bytes."""
    try:
        tree = ast.parse(data) if python else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:
        return Source(hashlib.sha256(data).hexdigest())
    imports = tuple(dict.fromkeys(_imports(tree)))
    registries = tuple(_registries(tree))
    defined = [node for node in tree.body if isinstance(node, DEFINITIONS)]
    names = [node.name for node in defined]
    names += [f"{node.name}.{part.name}" for node in defined if isinstance(node, ast.ClassDef)
              for part in node.body if isinstance(part, DEFINITIONS)]  # fmt: skip
    return Source(_digest(tree), imports, registries, tuple(names))


def _digest(tree: ast.Module) -> str:
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and node.body and _is_text(node.body[0]):
            node.body = node.body[1:]
        elif isinstance(node, ast.Constant):
            node.kind = None  # u"" is ""
    return hashlib.sha256(ast.dump(tree).encode(errors="surrogatepass")).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _imports(tree: ast.AST) -> Iterator[Import]:
    """Yield all imports that can be executed, inside functions too; those for type checkers cannot."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and _name(node.test) == "TYPE_CHECKING":
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (Import(0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield Import(node.level, node.module or "", tuple(alias.name for alias in node.names))
        elif isinstance(node, ast.Call):
            name = _called(node)
            if name in ("import_module", "__import__") and isinstance(node.args[0], ast.Constant):
                text = str(node.args[0].value)
                module = text.lstrip(".")
                yield Import(len(text) - len(module), module)
        waiting += ast.iter_child_nodes(node)


def _registries(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _called(node) == "Registry" and len(node.args) >= 2:
            package = node.args[1]
            if isinstance(package, ast.Constant):
                yield str(package.value)


def _called(node: ast.Call) -> str:
    return _name(node.func) if node.args else ""


def _name(node: ast.expr) -> str:
    return getattr(node, "id", "") or getattr(node, "attr", "")
