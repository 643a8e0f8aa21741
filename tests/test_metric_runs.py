"""The experiments of all metrics as whole runs: what they hold, what they cost, and that nothing is computed twice."""

import re

import pandas as pd
import pytest

from rapbench.app.cli import main
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.results.file import NAME, read
from tests.small import SMALL

MASKED = {name for name in protocols if protocols[name].function.needs_masks}
METHODS = ("gradient_x_input", "sensitivity", "random")
RUN = ["run", "experiment=all_metrics", f"model={SMALL}", "subset.n=3", f"method=[{','.join(METHODS)}]",
       "protocol.abpc.steps=9", "name=all"]  # fmt: skip
PASSES = re.compile(r"about ([\d,]+) forward passes")


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """The folder of results, and what was said of the passes before it began."""
    with pytest.MonkeyPatch.context() as patch, pytest.MonkeyPatch.context() as spied:
        patch.chdir(tmp_path_factory.mktemp("all"))
        said: list[str] = []
        spied.setattr("rapbench.evaluation.fill_cells.say", said.append)
        assert main(RUN) == 0
        first = list(said)
        assert main([*RUN, "protocol.abpc.steps=9"]) == 0
        assert said == first  # nothing was computed again
        yield (tmp_path_factory.getbasetemp() / "all0/results/all" / SMALL), first


def test_every_metric_is_there_but_for_those_that_need_masks(ran):
    folder, _ = ran
    run = read(folder / NAME)
    wanted = set(protocols) - MASKED - {"shuffling", "distance", "regions"}  # ABPC is the regions' number
    assert set(run.tables) == wanted
    ranks = pd.read_csv(folder / "ranks.csv", keep_default_na=False)
    assert set(ranks["protocol"]) == wanted
    assert set(ranks["method"]) == set(METHODS)
    page = (folder / "report.html").read_text()
    for name in wanted:
        assert name in page


def test_the_forward_passes_are_said_before(ran):
    """As they are counted by hand: of each method, and once for all methods."""
    folder, said = ran
    (passes,) = [match[1] for line in said if (match := PASSES.search(line))]
    run = read(folder / NAME)
    shared, total = 0, 0.0
    for label, info in run.protocols.items():
        options = {name: value for name, value in info.options.items() if name != "k"}
        made = protocols[label].function(**options) if label != "removal" else None
        if made is None:
            continue
        shared += made.asked_once()
        for method in METHODS:
            facts = methods[method].facts
            total += made.asked(facts.signs) + made.recomputed() * facts.passes
    asked = run.tables["removal"]
    removal = len(asked[asked["k"] != "0"]) / 3
    attributed = sum(methods[method].facts.passes for method in METHODS)
    assert float(passes.replace(",", "")) == pytest.approx(3 * (shared + total + removal + attributed), abs=1)


@pytest.mark.parametrize("experiment", ["faithfulness", "sanity"])
def test_the_metrics_of_one_kind_are_among_all(experiment, ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ["protocol.abpc.steps=2"] if experiment == "faithfulness" else []
    assert main(["run", f"experiment={experiment}", f"model={SMALL}", "subset.n=1", "method=[random]", *small]) == 0
    folder, _ = ran
    assert set(read(tmp_path / "results" / experiment / SMALL / NAME).tables) <= set(read(folder / NAME).tables)


def test_localisation_runs_where_masks_are_known(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "experiment=localisation", "subset.n=8", "method=[random,edge]"]) == 0
    run = read(tmp_path / "results/localisation/vgg16_3d_phantoms" / NAME)
    assert set(run.tables) == MASKED
    assert run.tables["relevance_mass"]["relevance_mass"].notna().any()
