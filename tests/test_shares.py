"""K as shares of an input's pixels, beside counts: from the command line to every table, figure, page and baseline."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import rapbench
from rapbench.app.cli import main
from rapbench.drift.compared_run import read_run
from rapbench.report.plots import k_axis
from rapbench.results.display import k_number, ordered, pixels_of, sized
from tests.small import SMALL, SPACE

PIXELS = SPACE[0] * SPACE[1]  # 2,304
KS = ["0", "40", "2%", "100", "10%", "all"]  # 2 % are 46, 10 % are 230
NUMBERS = [0, 40, 46, 100, 230]
RUN = ["run", f"model={SMALL}", "method=[rap,sensitivity,random,edge]", "protocol=[removal,distance]", "subset.n=6",
       "name=shares", "gallery=1", "protocol.distance.k.positive=[10,2%,100,10%,all]"]  # fmt: skip
FOLDER = Path("results/shares", SMALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        top = tmp_path_factory.mktemp("shares")
        patch.chdir(top)
        lists = [f"k.{sign}=[{','.join(KS)}]" for sign in ("positive", "negative")]
        assert main([*RUN, *lists, "protocol.distance.k.negative=[10,50%]"]) == 0
        counts = ["0", "40", "46", "100", "230", "all"]
        lists = [f"k.{sign}=[{','.join(counts)}]" for sign in ("positive", "negative")]
        more = ["protocol.distance.k.positive=[10,46,100,230,all]", "protocol.distance.k.negative=[10,1152]"]
        assert main([*RUN, *lists, *more, "name=counts"]) == 0
        yield top / FOLDER


def test_the_numbers_are_those_of_the_counts(folder):
    shares, counts = (rapbench.load_results(folder.parents[1] / name).frame for name in ("shares", "counts"))
    keys = ["input", "method", "protocol", "variant", "k", "metric"]
    named = {"46": "2%", "230": "10%", "1152": "50%"}
    counts = counts.assign(k=counts["k"].astype(str).replace(named))
    one, other = (frame.astype(dict.fromkeys(keys, str)).set_index(keys)["value"].sort_index()
                  for frame in (shares, counts))  # fmt: skip
    pd.testing.assert_series_equal(one, other)
    assert set(shares[shares["protocol"] == "removal"]["k"]) == set(KS)
    selected = shares[(shares["metric"] == "selected") & (shares["k"] == "2%")]["value"]
    assert selected.max() == 46


def test_tables_ascend_once_the_shares_are_resolved(folder):
    table = rapbench.load_results(folder).table()
    part = table[(table["protocol"] == "removal") & (table["method"] == "rap") & (table["metric"] == "accuracy")]
    assert part[part["variant"] == "positive"]["k"].tolist() == KS
    csv = pd.read_csv(folder / "table1.csv", dtype={"k": str})
    assert csv["k"].drop_duplicates().tolist() == KS
    heads = re.findall(r"^\| K .*$", (folder / "table1.md").read_text(), re.M)
    assert heads
    assert all([cell.strip() for cell in head.strip("|").split("|")][1:] == KS for head in heads)
    latex = (folder / "table1.tex").read_text()
    assert re.search(r"0 & 40 & 2\\% & 100 & 10\\% & all", latex)
    distance = pd.read_csv(folder / "distance.csv", dtype={"k": str})
    assert distance[distance["sign"] == "positive"]["k"].drop_duplicates().tolist() == ["10", "2%", "100", "10%", "all"]
    verdict = pd.read_csv(folder / "verdict.csv")
    assert set(verdict[verdict["method"] == "rap"]["ks"]) == {"40 2% 100 10%"}


def test_the_page_offers_and_draws_them_in_order(folder):
    page = (folder / "report.html").read_text()
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', page, re.S)[1])
    figures = data["figures"]["table"].values()
    assert all(figure["layout"]["xaxis"]["categoryarray"] == KS for figure in figures)
    assert data["gallery"]["ks"]["positive"] == KS[1:]
    distance = data["figures"]["distance"]["negative"]
    assert distance["layout"]["xaxis"]["categoryarray"] == ["10", "50%"]


def test_a_share_stands_at_its_number_on_an_axis():
    from matplotlib.figure import Figure

    with sized(PIXELS):
        places = k_axis(Figure().subplots(), ordered("k", KS[::-1]))
    assert list(places) == KS
    assert list(places.values())[:-1] == NUMBERS
    figure = None
    with sized(PIXELS):
        assert [pixels_of(k) for k in KS[:-1]] == NUMBERS
    assert figure is None
    assert pixels_of("5%") is None
    assert ordered("k", ["all", "5%", "10%", "250", "0.5%", ""]) == ["", "250", "0.5%", "5%", "10%", "all"]
    assert k_number("5%") / k_number("10%") == 0.5


def test_figures_draw_them_at_their_numbers(folder):
    results = rapbench.load_results(folder)
    for axes in results.plot("removal").axes:
        assert axes.get_xticks().tolist()[:-1] == NUMBERS
    assert results.runs[0].pixels == PIXELS
    both = rapbench.Results([*results.runs, *rapbench.load_results(folder.parents[1] / "counts").runs])
    assert both.pixels == PIXELS
    both.report(folder.parents[2] / "both")
    compared = pd.read_csv(folder.parents[2] / "both/compare.csv", dtype={"k": str})
    assert {"2%", "46"} <= set(compared["k"])


def test_ranks_and_tests_take_them_as_steps(folder):
    results = rapbench.load_results(folder)
    ranks = results.ranks()
    table = results.table()
    part = table[(table["protocol"] == "removal") & (table["metric"] == "logit") & (table["variant"] == "positive")
                 & (table["method"] == "rap") & table["k"].isin(KS[1:-1])]  # fmt: skip
    mine = ranks[(ranks["protocol"] == "removal") & (ranks["metric"] == "logit") & (ranks["variant"] == "positive")]
    assert mine.set_index("method")["value"]["RAP" if "RAP" in set(mine["method"]) else "rap"] == pytest.approx(
        part["value"].mean()
    )
    assert set(results.compare()["k"]) == {*KS[1:], "10", "50%"}


def test_a_share_beyond_every_maps_pixels_is_remarked(folder):
    """No map has half of its pixels negative and more: the note stands below the table, as of a count."""
    frame = rapbench.load_results(folder).frame
    rows = frame[(frame["protocol"] == "distance") & (frame["metric"] == "selected") & (frame["k"] == "50%")]
    most = rows.groupby("method", observed=True)["value"].max()
    page = (folder / "report.html").read_text()
    assert ((most < PIXELS // 2).any()) == ("K = 50% selects the same pixels" in page)


def test_a_baseline_holds_them(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parents[2])
    words = ["drift", str(FOLDER), "--baseline", "mine.csv"]
    assert main([*words, "--update"]) == 0
    assert main(words) == 0
    lines = Path("mine.csv").read_text()
    assert ",2%," in lines
    ks = read_run(folder).values.loc["rap", "removal", "positive"].index.get_level_values("k")
    assert set(ks) == set(KS)
    Path("mine.csv").write_text(re.sub(r"^(rap,removal,positive,2%,[^,]*,)46,", r"\g<1>45,", lines, flags=re.M))
    capsys.readouterr()
    assert main(words) == 1
    assert "2%" in capsys.readouterr().out


def test_figure_7_takes_them(folder, monkeypatch):
    monkeypatch.chdir(folder.parents[2])
    assert main(["figure", "figure7", str(FOLDER), "--images", "1", "--positive", "2%", "--negative", "10%"]) == 0
    assert (folder / "figure7a-1.png").exists()


def test_a_list_that_does_not_ascend_here_is_one_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder.parents[2])
    assert main([*RUN, "k.positive=[0,46,2%]", "k.negative=[0]"]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("rapbench: protocol 'removal': k.positive has 46 (46 pixels) before 2% (46 pixels)")
    assert main([*RUN, "k.positive=[0,5%,2%]"]) == 2
    assert "k.positive must ascend" in capsys.readouterr().err


def test_from_python_too():
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(4, 2))
    k = {"positive": [0, "1%", 20, "10%", "all"]}
    results = rapbench.evaluate(network, torch.randn(4, 1, 10, 10, 10), methods=["rap", "random"],
                                protocols=[("removal", {"k": k}), ("shuffling", {"k": k})])  # fmt: skip
    frame = results.frame
    selected = frame[(frame["metric"] == "selected") & (frame["method"] == "random")].groupby("k", observed=True)
    assert selected["value"].max().drop("all").to_dict() == {"0": 0, "1%": 10, "20": 20, "10%": 100}
    table = results.table()
    assert table["k"].drop_duplicates().tolist() == ["0", "1%", "20", "10%", "all"]
    np.testing.assert_array_equal(results.plot().axes[0].get_xticks()[:-1], [0, 10, 20, 100])
