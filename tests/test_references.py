"""The bibliography: every key that is cited has an entry, and every entry is cited."""

import ast
import importlib.util
import json
import re
import unicodedata

import pytest

from tests.pages import FENCE, PAGES, ROOT

spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs/site/hooks.py")
assert spec is not None
hooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(hooks)
ENTRIES = hooks.references()


def texts() -> dict[str, str]:
    """Every page and every docstring of the package, by the file it is in."""
    found = {page: FENCE.sub("", text) for page, text in PAGES.items() if page != "docs/references.md"}
    for path in [*(ROOT / "rapbench").rglob("*.py"), *(ROOT / "experiments").glob("*.py")]:
        places = (ast.Module, ast.ClassDef, ast.FunctionDef)
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, places)]
        found[path.relative_to(ROOT).as_posix()] = "\n".join(ast.get_docstring(node) or "" for node in nodes)
    notebook = json.loads((ROOT / "docs/quickstart.ipynb").read_text())
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"]
    found["docs/quickstart.ipynb"] = "\n".join("".join(cell["source"]) for cell in cells)
    return found


CITED = {file: set(hooks.CITATION.findall(text)) for file, text in texts().items()}


@pytest.mark.parametrize("file", [file for file, keys in CITED.items() if keys])
def test_every_key_that_is_cited_has_an_entry(file):
    assert CITED[file] <= set(ENTRIES)


@pytest.mark.parametrize("key", ENTRIES)
def test_every_entry_is_whole_and_cited(key):
    entry = ENTRIES[key]
    assert {"author", "title", "year"} <= set(entry)
    assert entry["year"] in key
    family = re.split(r"[ ,]", entry["author"])[0]
    letters = unicodedata.normalize("NFKD", family.lower())
    assert key.startswith(letters.encode("ascii", "ignore").decode())
    assert key in set().union(*CITED.values())


def test_the_file_has_an_entry_for_each_at_sign():
    text = (ROOT / "docs/references.bib").read_text()
    assert text.count("\n@") + 1 == len(ENTRIES)
    assert text.count(" = {") == sum(map(len, ENTRIES.values()))
