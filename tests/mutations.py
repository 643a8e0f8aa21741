"""One-line mutations of source code, found by its shape: names of locals, order and format of lines are free."""

import ast
import re
from typing import Any

HOLE = re.compile(r"_\d")


def mutated(source: str, pattern: str, replacement: str) -> str:
    """Return a source in which the one piece of code that a pattern matches is replaced.

    `_1`, `_2`, ... stand for any expression, the same wherever one stands twice. `name = value` matches a keyword
    argument too. Raises AssertionError unless there is exactly one match, and for a replacement that changes nothing.
    """
    wanted = _parsed(pattern)
    matches = [(node, found) for node in ast.walk(ast.parse(source)) if (found := _match(wanted, node)) is not None]
    assert len(matches) == 1, f"{pattern} is there {len(matches)} times"
    ((node, found),) = matches
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    start, end = (sum(map(len, lines[: line - 1])) + column for line, column in
                  ((node.lineno, node.col_offset), (node.end_lineno, node.end_col_offset)))  # fmt: skip
    whole = b"".join(lines)
    new = re.sub(HOLE, lambda hole: f"({found[hole[0]]})" if not found[hole[0]].isidentifier() else found[hole[0]],
                 replacement)  # fmt: skip
    changed = (whole[:start] + new.encode() + whole[end:]).decode()
    assert ast.dump(ast.parse(changed)) != ast.dump(ast.parse(source)), f"{replacement} changes nothing"
    return changed


def _parsed(pattern: str) -> ast.AST:
    (statement,) = ast.parse(pattern).body
    return statement.value if isinstance(statement, ast.Expr) else statement


def _match(pattern: ast.AST, node: ast.AST) -> dict[str, str] | None:
    found: dict[str, str] = {}
    return found if _same(pattern, node, found) else None


def _same(pattern: Any, node: Any, found: dict[str, str]) -> bool:
    if isinstance(pattern, ast.Name) and HOLE.fullmatch(pattern.id):
        return isinstance(node, ast.expr) and found.setdefault(pattern.id, ast.unparse(node)) == ast.unparse(node)
    if isinstance(pattern, ast.Assign) and isinstance(node, ast.keyword):
        return [node.arg] == [ast.unparse(target) for target in pattern.targets] and _same(
            pattern.value, node.value, found
        )
    if isinstance(pattern, list):
        return (
            isinstance(node, list)
            and len(pattern) == len(node)
            and all(_same(mine, theirs, found) for mine, theirs in zip(pattern, node, strict=True))
        )
    if not isinstance(pattern, ast.AST):
        return bool(pattern == node)
    return type(pattern) is type(node) and all(
        _same(getattr(pattern, field), getattr(node, field), found)
        for field in pattern._fields
        if field not in ("ctx", "type_comment", "kind")
    )
