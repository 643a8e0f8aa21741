"""RAP's open choices as configurations, the titles that methods are given, and the experiment that compares them."""

from pathlib import Path
from typing import get_args

import pandas as pd
import pytest
import yaml

from rapbench.app.cli import main
from rapbench.core.paths import resource
from rapbench.methods import methods
from rapbench.results.file import NAME, read
from tests.small import SMALL

VARIANTS = sorted(resource("configs", "method", "rap").glob("*.yaml"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def own(path: Path) -> dict:
    return {key: value for key, value in yaml.safe_load(path.read_text()).items() if key not in ("defaults", "title")}


def test_every_choice_of_every_option_has_a_variant_that_is_in_the_experiment():
    entry = methods["rap"]
    wanted = set()
    for name, parameter in entry._parameters().items():
        choices = (True, False) if isinstance(parameter.default, bool) else get_args(parameter.annotation)
        wanted |= {(name, value) for value in choices if value != parameter.default and name != "balance"}
    changed = [tuple(own(path).items()) for path in VARIANTS]
    assert {items[0] for items in changed if len(items) == 1} == {
        item for item in wanted if isinstance(item[1], (str, bool))
    }
    experiment = yaml.safe_load(resource("configs", "experiment", "ablation.yaml").read_text())
    chosen = next(part["override /method"] for part in experiment["defaults"] if "override /method" in part)
    assert {name for name in chosen if name.startswith("rap/")} == {f"rap/{path.stem}" for path in VARIANTS}


def test_it_makes_one_table_whose_rows_say_what_was_changed():
    small = [f"model={SMALL}", "subset.n=2", "k.positive=[0,250]", "k.negative=[0,2000]", "gallery=0"]
    assert main(["run", "experiment=ablation", *small]) == 0
    folder = Path("results/ablation", SMALL)
    run = read(folder / NAME)
    table, text = pd.read_csv(folder / "table1.csv"), (folder / "table1.md").read_text()
    for path in VARIANTS:
        label, title = f"rap_{path.stem}", yaml.safe_load(path.read_text())["title"]
        assert run.methods[label].options == own(path)
        assert run.titles[label] == title
        assert f"| {title} " in text
        assert label in set(table["method"])
    assert set(run.protocols) == {"removal", "shuffling"}


def test_a_title_of_ones_own_stands_in_the_tables_and_moves_no_result():
    command = ["run", f"model={SMALL}", "subset.n=2", "method=[random]", "protocol=[distance]"]
    assert main([*command, "+method.random.title=Coin toss"]) == 0
    folder = Path("results/run", SMALL)
    assert "Coin toss" in (folder / "report.html").read_text()
    cells = {path.name for path in Path("results/store").iterdir()}
    assert main(command) == 0
    assert "Coin toss" not in (folder / "report.html").read_text()
    assert {path.name for path in Path("results/store").iterdir()} == cells


@pytest.mark.parametrize("title", ["' '", "[a]", "7"])
def test_a_title_that_is_no_text_is_refused(title, capsys):
    assert main(["run", "method=[random]", f"+method.random.title={title}"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "title" in line]
    assert "method 'random': title=" in line


def test_a_title_that_another_row_has_is_refused(capsys):
    assert main(["run", "model=efficientnet_lite0", "method=[random,edge]", "+method.random.title=Edges"]) == 2
    assert "would both be shown as 'Edges'" in capsys.readouterr().err


def test_only_methods_have_titles(capsys):
    assert main(["run", "method=[random]", "+protocol.distance.title=mine"]) == 2
    assert "no option 'title'" in capsys.readouterr().err
