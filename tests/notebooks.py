"""Notebooks, cell by cell, without Jupyter: `python -m tests.notebooks FILE` writes what its cells show into it."""

import ast
import base64
import contextlib
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def execute(notebook: dict[str, Any], namespace: dict[str, Any]) -> None:
    """Run all cells in a namespace, as a notebook does, and put what each shows into its outputs."""
    for number, cell in enumerate(code_cells(notebook), start=1):
        tree, printed = ast.parse("".join(cell["source"])), io.StringIO()
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, f"cell {number}", "exec"), namespace)
            shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), namespace) if last else None
        cell["execution_count"] = number
        cell["outputs"] = []
        if printed.getvalue():
            lines = printed.getvalue().splitlines(keepends=True)
            cell["outputs"].append({"name": "stdout", "output_type": "stream", "text": lines})
        if shown is not None:
            found = {"data": pictured(shown), "execution_count": number, "metadata": {}}
            cell["outputs"].append(found | {"output_type": "execute_result"})


def pictured(value: Any) -> dict[str, Any]:
    """Return what a notebook shows of a value: its text, and its table or picture where it has one."""
    found: dict[str, Any] = {"text/plain": repr(value).splitlines(keepends=True)}
    if hasattr(value, "_repr_html_") and (text := value._repr_html_()):
        found["text/html"] = text.splitlines(keepends=True)
    if hasattr(value, "_repr_png_"):
        found["image/png"] = base64.b64encode(value._repr_png_()).decode()
    return found


def main(path: Path) -> None:
    notebook = json.loads(path.read_text())
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.path.append(os.getcwd())
        execute(notebook, {"__name__": "__main__"})
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
