"""Names that could be more than names: no table, document, figure, page or spreadsheet runs or follows them."""

import csv
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import markdown
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rapbench.core.spreadsheet import cell, csv_text, from_cell
from rapbench.data.subset.manifest import Row, Subset, load_manifest
from rapbench.report import escape
from tests.results import write_report

NAMES = [
    "=cmd|' /C calc'!A0", "+1+1", "-2+3", "@SUM(A1)", "\t=1", " =1", "'=1", "''=1", "＝1+1",  # noqa: RUF001
    "[x](http://evil.org)", "![x](http://evil.org/x.png)", "[x][y]", "[x]: http://evil.org", "&lt;b&gt;", "*bold*",
    "`x`", "<script>alert(1)</script>", "</script><img src=x onerror=alert(1)>", "__x__", "_x_",
    "<a href='javascript:1'>x</a>",
    "a|b", "a\nb", "a\r\n\r\nb", "\x1b[2J", "\u202eabc", "\x00", "$x$", "$\\frac$", "\\input{/etc/passwd}", "\\\\", "{",
    "}%#^~", "[optional]", "*star", "# heading", "- list", "1. list", "> quote", "===", "plain",
    "lrp_a1b0_mine", "LRP (mine), 50 %",
]  # fmt: skip
METHODS = [*NAMES, "random"]


def results() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame([
        {"image": image, "method": method, "sign": "positive", "perturbation": "removal", "k": k, "predicted": 1,
         "correct": bool(rng.integers(2)), "logit": rng.normal(), "selected": 3}
        for method in METHODS for image in ("=a.jpg", "</script><b>.jpg", "c$d$.jpg") for k in ("0", "50")
    ])  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    header = ["net<script>: of [x](http://evil.org)", "# no heading", "$\\frac$ and $ and \x1b[31m"]
    text = write_report(place, results(), None, header)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    return place


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], attrs

    def handle_data(self, data):
        self.texts.append(data.strip())


def test_markdown_has_the_names_as_text_and_a_row_each(folder):
    for name in ("table1.md", "intervals.md"):
        tags = Tags(markdown.markdown((folder / name).read_text(), extensions=["tables"]))
        assert set(tags.found) <= {"h3", "p", "table", "thead", "tbody", "tr", "th", "td"}
    text = (folder / "table1.md").read_text()
    tables = re.findall(r"(?:^\|.*\n)+", text, re.M)
    rows = [table.count("\n") - 2 for table in tables]
    assert rows == [len(NAMES), len(METHODS), len(METHODS)]  # the verdict's, accuracy, score
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for table in tables[1:] for line in table.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_what_markdown_shows(name):
    shown = Tags(markdown.markdown(f"|a|b|\n|-|-|\n|{escape.markdown(name)}|1|", extensions=["tables"]))
    assert shown.found.count("td") == 2
    assert not {"a", "img", "script", "em", "strong", "code"} & set(shown.found)


def test_usual_names_stay_as_they_are():
    for name in (
        "plain",
        "lrp_a1b0_mine",
        "LRP (mine), 50 %",
        "RAP (normal flow)",
        "Cells: value [95 % interval]; p < 0.05",
    ):
        assert escape.markdown(name) == name
        assert escape.visible(name) == name


def test_latex_has_no_command_of_a_name(folder):
    """What TeX reads: every special character is escaped, and a row begins with nothing that `\\\\` would take."""
    for name in ("table1.tex", "intervals.tex"):
        text = (folder / name).read_text()
        assert "\\input" not in text
        assert not re.search(r"(\\\\|\\midrule)\s*[\[*]", text)
        assert text.count("\\begin{tabular}") == text.count("\\end{tabular}")
        for line in text.splitlines():
            assert line.startswith("%") or line.count("{") - line.count("\\{") == line.count("}") - line.count("\\}"), (
                line
            )
        rows = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.S)
        assert all(row.count("\\\\\n") == len(METHODS) for row in rows)


def test_the_page_has_no_element_or_script_of_a_name(folder):
    text = (folder / "report.html").read_text()
    tags = Tags(text)
    assert tags.found.count("script") == 3
    assert "img" not in tags.found
    assert {tag for tag in tags.found if tag in ("a", "b", "i")} <= {"a", "b", "i"}
    assert "<script>alert" not in text
    assert "onerror=alert(1)>" not in text
    assert "javascript:1'>" not in text


def test_no_cell_of_any_table_is_a_formula_and_numbers_are_numbers(folder):
    negative = 0
    for path in folder.glob("*.csv"):
        with path.open(newline="", encoding="utf-8") as file:
            heading, *rows = csv.reader(file)
        assert rows or path.name == "paper.csv"
        for row in rows:
            for name, value in zip(heading, row, strict=True):
                if value[:1] in tuple("=+-@\t\r＝") or (value.lstrip(" '")[:1] == "=" and not value.startswith("'")):  # noqa: RUF001
                    negative += 1
                    float(value)  # else it would be run
                    assert name not in ("method", "other", "control")
        if "method" in heading:
            assert {from_cell(row[heading.index("method")]) for row in rows} <= set(METHODS)
    assert negative > 20
    table = pd.read_csv(folder / "table1.csv")
    assert (table["value"] < 0).any()
    assert set(table["method"].map(from_cell)) == set(METHODS)


@given(st.text())
def test_a_cell_gives_the_name_back(name):
    assert from_cell(cell(name)) == name
    assert not re.match(r"[=+\-@\t\r＝＋－＠]", cell(name))  # noqa: RUF001


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_name_is_visible_and_whole(name):
    shown = escape.visible(name)
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", shown)
    assert "\n" not in escape.markdown(name)
    assert "\n" not in escape.latex(name)


def test_numbers_keep_their_digits():
    frame = pd.DataFrame(
        {"name": ["-a", None, "b"], "value": [-1.5, float("nan"), 1e-9], "n": [-1, 2, 3], "ok": [True, False, True]}
    )
    assert csv_text(frame) == "name,value,n,ok\n'-a,-1.5,-1,True\n,,2,False\nb,1e-09,3,True\n"


def test_a_manifest_gives_odd_names_back(tmp_path):
    names = ["-a.jpg", "=b.jpg", "@c/d.jpg", "'=e.jpg", "+f.jpg", "g,h.jpg", 'i"j.jpg', "k.jpg"]
    rows = [Row(name, 1, "0" * 64, -1.25, "=model", "w", f"-other@{'0' * 64}") for name in names]
    Subset(rows).save(tmp_path / "manifest.csv")
    assert load_manifest(tmp_path / "manifest.csv").rows == rows
    for row in list(csv.reader(io.StringIO((tmp_path / "manifest.csv").read_text())))[1:]:
        assert not [value for value in row if value[:1] in tuple("=+@") or (value[:1] == "-" and value != "-1.25")]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_in_a_figure_is_no_mathematics(name):
    from matplotlib.figure import Figure

    figure = Figure()
    text = figure.text(0, 0, escape.figure(name))
    assert text._preprocess_math(text.get_text()) == (escape.visible(name), False)
