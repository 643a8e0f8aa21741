"""The notebook runs from its first cell to its last, and shows what stands in the file."""

import json
import sys

import pytest
import torch

from tests.notebooks import code_cells, execute
from tests.pages import ROOT

NOTEBOOKS = sorted((ROOT / "docs").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_what_it_says(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    notebook = json.loads(path.read_text())
    before = [[sorted(output.get("data", output)) for output in cell["outputs"]] for cell in code_cells(notebook)]
    namespace: dict = {"__name__": "__main__"}
    with torch.random.fork_rng():
        execute(notebook, namespace)
    after = [[sorted(output.get("data", output)) for output in cell["outputs"]] for cell in code_cells(notebook)]
    assert after == before, "run python -m tests.notebooks on it"
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert (tmp_path / "shapes/report.html").is_file()
    verdict = namespace["results"].verdict()
    found = verdict[(verdict["control"] == "random") & (verdict["variant"] == "positive")]
    assert set(found["verdict"]) == {"better"}
    assert namespace["inserted"].table()["metric"].isin(["probability", "auc"]).all()
    assert "brightness" in set(namespace["ready"].frame["method"])


def test_there_is_one():
    assert [path.name for path in NOTEBOOKS] == ["quickstart.ipynb"]
