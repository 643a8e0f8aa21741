"""A protocol that no report has heard of: it stands, unasked, in every result that others stand in."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from rapbench.app.cli import main
from rapbench.protocols import protocols
from rapbench.results.file import NAME, read
from tests.own import Own
from tests.pages import blocks
from tests.small import SMALL

# What a user writes, as the page on it shows: under 60 lines. K = 0, the blurred image, is asked like any other.
PAGE = "docs/adding-a-protocol.md"
INSERTION = next(block.content for block in blocks(PAGE) if block.file == "own_insertion.py")
RUN = ["run", f"model={SMALL}", "method=[sensitivity,random]", "protocol=[own_insertion:own_insertion]",
       "subset.n=12", "name=own"]  # fmt: skip
FOLDER = Path("results/own", SMALL)
LABEL = "own_insertion"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        own = Own(tmp_path_factory.mktemp("own"), patch)
        own.write("own_insertion.py", INSERTION)
        assert len(INSERTION.strip().split("\n")) < 60
        assert main(RUN) == 0
        yield own.folder / FOLDER
        own.forget()
    protocols._entries.pop(LABEL)  # entered before each test's own care for the registries begins


def test_its_numbers_are_right(folder):
    """The whole image gives the clean answer; the summary is the trapezoid of the curve."""
    run = read(folder / NAME)
    table, numbers = run.tables[LABEL], run.numbers[LABEL]
    assert set(table["k"]) == {"0.0", "0.25", "0.5", "0.75", "1.0"}
    last = table[table["k"] == "1.0"]
    assert last["accuracy"].all()
    assert last.groupby("input")["probability"].nunique().eq(1).all()  # whatever the method
    assert table[table["k"] == "0.0"]["probability"].mean() < last["probability"].mean()
    wide = table.pivot(index=["input", "method"], columns="k", values="probability")
    area = (wide["0.0"] + wide["1.0"]) / 8 + (wide["0.25"] + wide["0.5"] + wide["0.75"]) / 4
    np.testing.assert_allclose(numbers.set_index(["input", "method"])["auc"].sort_index(), area.sort_index())


def test_it_stands_in_the_frame_with_units_and_directions(folder):
    frame = pd.read_parquet(folder / NAME)
    assert set(frame["metric"]) == {"probability", "accuracy", "auc"}
    assert set(frame[frame["metric"] == "auc"]["k"]) == {""}
    assert set(frame["protocol"]) == {LABEL}
    auc = read(folder / NAME).protocols[LABEL].summaries[0]
    assert (auc.better, auc.title) == ({"": "higher"}, "area under the curve")


def test_it_stands_in_the_tables(folder):
    table = pd.read_csv(folder / "metric-own_insertion.csv", dtype={"k": str}, keep_default_na=False)
    assert set(table["metric"]) == {"probability", "accuracy", "auc"}
    run = read(folder / NAME)
    want = run.numbers[LABEL].groupby("method")["auc"].mean()
    got = table[table["metric"] == "auc"].set_index("method")["value"].astype(float)
    for method in ("sensitivity", "random"):
        assert got[method] == pytest.approx(want[method])
        for file in ("md", "tex"):
            text = (folder / f"metric-own_insertion.{file}").read_text()
            assert f"{want[method]:.3f}" in text
            assert "higher is better" in text
    shares = run.tables[LABEL].groupby(["method", "k"])["accuracy"].mean()
    rows = table[table["metric"] == "accuracy"].set_index(["method", "k"])["value"].astype(float)
    np.testing.assert_allclose(rows.sort_index(), 100 * shares.sort_index())


def test_it_is_drawn(folder):
    assert (folder / "metric-own_insertion.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / "metric-own_insertion.pdf").read_bytes().startswith(b"%PDF")


def test_it_is_judged_and_tested_in_its_own_direction(folder):
    verdict, run = pd.read_csv(folder / "verdict.csv"), read(folder / NAME)
    assert set(verdict["perturbation"]) == {LABEL, f"{LABEL} (auc)"}
    assert set(verdict["metrics"]) == {"probability accuracy", "auc"}
    auc = run.numbers[LABEL].groupby("method")["auc"].mean()
    gain = verdict[verdict["metrics"] == "auc"]["auc_gain"].iloc[0]
    assert gain == pytest.approx(auc["sensitivity"] - auc["random"])
    pairs = pd.read_csv(folder / "tests.csv", keep_default_na=False)
    assert set(pairs["metric"]) == {"probability", "accuracy", "auc"}
    assert set(pairs[pairs["metric"] == "accuracy"]["test"]) == {"McNemar"}


def test_it_stands_on_the_page(folder):
    page = (folder / "report.html").read_text("utf-8")
    assert re.search(rf"<h2>{LABEL}</h2>", page)
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    assert set(data["figures"]["metric-0"]) == {"probability|", "accuracy|"}
    assert "area under the curve" in page
    assert page.count('class="finding"') == 2  # one card for the curves, one for the area


def test_it_can_drift(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parents[2])
    baseline = ["drift", str(FOLDER), "--baseline", "own.csv"]
    assert main([*baseline, "--update"]) == 0
    assert main(baseline) == 0
    lines = Path("own.csv").read_text().splitlines()
    assert lines[0].endswith("distance,probability,accuracy")
    cells = lines[5].split(",")
    cells[-2] = str(float(cells[-2]) + 0.01)
    Path("own.csv").write_text("\n".join([*lines[:5], ",".join(cells), *lines[6:]]) + "\n")
    capsys.readouterr()
    assert main(baseline) == 1
    assert "mean probability" in capsys.readouterr().out


def test_a_report_made_again_is_the_same_and_another_protocols_files_go(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[2])
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert main(["report", str(FOLDER)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before
    (folder / "metric-mine.csv").write_text("a user's own")
    Own(folder.parents[2], monkeypatch)
    assert main([*RUN[:3], "protocol=[distance]", *RUN[4:]]) == 0
    assert {path.name for path in folder.glob("metric-*")} == {"metric-mine.csv"}
    assert not (folder / "verdict.csv").exists()
