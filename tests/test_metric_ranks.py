"""Ranks of methods over metrics: by hand, against scipy, and what is said of metrics that tell nothing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from rapbench.api.results import Results
from rapbench.core.errors import RapbenchError
from rapbench.protocols.base.metric import Metric
from rapbench.report import write_report
from rapbench.report.image_values import ranked_values
from rapbench.report.informative import finding_text
from rapbench.report.ranking import ranking, ranks_of
from rapbench.report.statistics import RESAMPLES, SEED
from rapbench.results.display import NAMES
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import Run, typed
from tests.ranked import run_of, shuffled, single

FILES = {"ranks.csv", "ranks.md", "ranks.tex", "ranks.png", "ranks.pdf", "concordance.csv", "metric_agreement.csv",
         "metric_agreement.png", "metric_agreement.pdf", "informative.csv"}  # fmt: skip
METHODS = ("lrp_a1b0", "rap", "mine", "edge", "random")


def noise(seed: int, methods=METHODS, n: int = 12) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    return {method: draw.normal(size=n) for method in methods}


# Means over three images by hand: rap and mine tie.
WORKED = {
    "up": {"rap": [1, 2, 6], "mine": [3, 3, 3], "edge": [0, 0, 3], "random": [5, 5, 5]},
    "down": {"rap": [1, 1, 1], "mine": [2, 2, 2], "edge": [3, 3, 3], "random": [0, 9, 9]},
}
RANKED = {
    "up": {"random": 1, "rap": 2.5, "mine": 2.5, "edge": 4},
    "down": {"rap": 1, "mine": 2, "edge": 3, "random": 4},
}
WORKED_RUN = run_of(WORKED, {"up": single("up"), "down": single("down", "lower")})


def test_ranks_are_those_worked_out_by_hand():
    found = Results([WORKED_RUN]).ranks()
    assert list(found) == ["model", "data", "protocol", "variant", "metric", "method", "value", "n", "rank", "low",
                           "high"]  # fmt: skip
    for protocol, ranks in RANKED.items():
        mine = found[found["protocol"] == protocol].set_index("method")
        assert mine["rank"].to_dict() == ranks
        assert mine["value"].to_dict() == {name: np.mean(values) for name, values in WORKED[protocol].items()}
        assert set(mine["n"]) == {3}


def test_intervals_are_those_of_a_bootstrap_written_out():
    """Each draw's means and ranks one by one, of numpy's own draws, which are those of the other intervals."""
    n = 7
    run = run_of({"a": noise(0, n=n), "b": noise(1, n=n)}, {"a": single("a"), "b": single("b", "lower")})
    found = Results([run]).ranks()
    draws = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    for protocol, sign in (("a", -1), ("b", 1)):
        values = run.tables[protocol].pivot(index="input", columns="method", values=protocol)
        ranks = stats.rankdata(sign * np.round(values.to_numpy()[draws].mean(1), 9), axis=1)
        ends = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
        mine = found[found["protocol"] == protocol].set_index("method").loc[values.columns]
        np.testing.assert_array_equal(mine[["low", "high"]].to_numpy().T, ends)
        assert (mine["low"] <= mine["rank"]).all()
        assert (mine["rank"] <= mine["high"]).all()


def test_intervals_count_only_the_images_that_have_a_value():
    """Of steps that lack other images each has its own mean; an image without any value is not drawn."""
    rows, n, draw = [], 9, np.random.default_rng(0)
    for method in ("rap", "mine", "random"):
        for image in range(n):
            for k in ("0", "1", "2"):
                there = image < 8 and not (method == "mine" and k == "2" and image in (1, 5))
                value = draw.normal() + (method == "rap") if there else np.nan
                rows.append({"input": f"{image}", "label": 0, "method": method, "variant": "", "k": k, "x": value})
    info = ProtocolInfo((Metric("x", {"": "higher"}),))
    run = Run("net", "samples", {name: MethodInfo() for name in ("rap", "mine", "random")}, {"p": info},
              {"p": typed(pd.DataFrame(rows), info.metrics)})  # fmt: skip
    (one,) = ranked_values(run)
    assert one.ks == ["1", "2"]
    found = ranking(run).set_index("method")
    means = np.nanmean(one.values, axis=0).mean(1)
    np.testing.assert_allclose(found.loc[one.methods, "value"], means)
    assert found["n"].to_dict() == {"rap": 8, "mine": 6, "random": 8}
    draws = np.random.default_rng(SEED).integers(0, 8, (RESAMPLES, 8))
    ranks = stats.rankdata(-np.round(np.nanmean(one.values[:8][draws], axis=1).mean(2), 9), axis=1)
    ends = np.quantile(ranks, [0.025, 0.975], axis=0, method="nearest")
    np.testing.assert_array_equal(found.loc[one.methods, ["low", "high"]].to_numpy().T, ends)


@pytest.mark.parametrize("values", [
    {"rap": [1.0], "mine": [2.0], "random": [3.0]},
    {"rap": [1.0, np.inf, 2], "mine": [2.0, 1, 1], "random": [3.0, 1, 1]},
    {"rap": [1.0, np.nan, np.nan], "mine": [2.0, 1, 1], "random": [3.0, 1, 1]},
])  # fmt: skip
def test_an_interval_that_is_not_defined_is_not_given(values):
    found = Results([run_of({"a": values})]).ranks()
    assert found[["low", "high"]].isna().all(axis=None)
    assert found["rank"].notna().all()


@pytest.mark.parametrize("seed", range(5))
def test_ranks_of_draws_are_scipys(seed):
    values = np.random.default_rng(seed).integers(0, 4, (6, 50)).astype(float)
    np.testing.assert_array_equal(ranks_of(values), stats.rankdata(values, axis=0))


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1, 1e6])
def test_a_metrics_unit_moves_no_rank_and_no_finding(scale):
    """Small numbers are no ties."""
    rng = np.random.default_rng(3)
    values = {"a": {name: place + rng.normal(size=100) for place, name in enumerate(METHODS)}, "b": noise(1, n=100)}
    one = Results([run_of(values)])
    other = Results([run_of({label: {name: scale * numbers for name, numbers in given.items()}
                             for label, given in values.items()})])  # fmt: skip
    columns = ["protocol", "method", "rank", "low", "high"]
    pd.testing.assert_frame_equal(one.ranks()[columns], other.ranks()[columns])
    columns = ["protocol", "method", "finding", "p_holm"]
    pd.testing.assert_frame_equal(one.informative()[columns], other.informative()[columns])


@pytest.mark.parametrize("seed", range(8))
def test_w_is_friedmans_statistic_with_ties_and_without_controls(seed):
    """Q = W m (n - 1) of m metrics and n methods."""
    draw = np.random.default_rng(seed)
    metrics = int(draw.integers(2, 6))
    values = {f"m{number}": {name: [float(draw.integers(0, 4))] * 2 for name in METHODS} for number in range(metrics)}
    run = run_of(values)
    found = Results([run]).concordance().set_index("over")
    assert list(found.index) == ["all", "without controls"]
    wide = pd.DataFrame({label: {name: numbers[0] for name, numbers in given.items()}
                         for label, given in values.items()})  # fmt: skip
    for over, methods in (("all", list(METHODS)), ("without controls", ["lrp_a1b0", "rap", "mine"])):
        row = found.loc[over]
        assert (row["metrics"], row["methods"]) == (metrics, len(methods))
        if metrics == 2:  # of which scipy computes none
            continue
        q, p = stats.friedmanchisquare(*wide.loc[methods].to_numpy())
        assert row["w"] * metrics * (len(methods) - 1) == pytest.approx(q, nan_ok=True)
        assert row["p"] == pytest.approx(p, nan_ok=True)


@pytest.mark.parametrize("seed", range(5))
def test_correlations_are_scipys(seed):
    draw = np.random.default_rng(seed)
    values = {label: {name: [float(draw.integers(0, 5))] * 2 for name in METHODS} for label in "abc"}
    del values["b"]["mine"]  # has no value by b
    found = Results([run_of(values)]).metric_agreement()
    assert list(zip(found["protocol"], found["other_protocol"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    for _, row in found.iterrows():
        one, other = values[row["protocol"]], values[row["other_protocol"]]
        for suffix, left_out in (("", ()), ("_without_controls", ("edge", "random"))):
            both = [name for name in METHODS if name in one and name in other and name not in left_out]
            assert row[f"methods{suffix}"] == len(both)
            ours, theirs = ([given[name][0] for name in both] for given in (one, other))
            if len(both) < 3 or len(set(ours)) == 1 or len(set(theirs)) == 1:
                assert np.isnan(row[f"spearman{suffix}"])
            else:
                assert row[f"spearman{suffix}"] == pytest.approx(stats.spearmanr(ours, theirs).statistic)


def test_a_method_that_a_metric_lacks_is_not_in_w_and_that_is_said(tmp_path):
    values = {"a": noise(0), "b": {name: given for name, given in noise(1).items() if name != "mine"}, "c": noise(2)}
    run = run_of(values)
    without = run_of({label: {name: given for name, given in numbers.items() if name != "mine"}
                      for label, numbers in values.items()})  # fmt: skip
    pd.testing.assert_frame_equal(Results([run]).concordance(), Results([without]).concordance())
    text = write_report(tmp_path, run)
    assert "Not in W, as some metrics have no value of them: mine." in text
    assert Results([run]).concordance().loc[0, "names"] == "lrp_a1b0, rap, edge, random"


def test_a_summary_stands_for_its_curves_in_the_variants_that_it_says():
    """Else one protocol's curve and its area counted twice."""
    metrics = (Metric("curve", {"": "higher", "other": "higher"}), Metric("count", kind="count", detail=True))
    area = Metric("area", {"": "higher"}, axis=None)
    hidden = Metric("hidden", {"other": "higher"}, axis=None, detail=True)
    info = ProtocolInfo(metrics, (area, hidden))
    assert [metric.name for metric in info.ranked("")] == ["area"]
    assert [metric.name for metric in info.ranked("other")] == ["curve"]
    assert info.ranked("third") == ()
    rows = [{"input": f"{image}", "label": 0, "method": method, "variant": variant}
            for method in ("rap", "mine", "random") for image in range(3) for variant in ("", "other")]  # fmt: skip
    table = pd.DataFrame([row | {"k": k, "curve": place, "count": 1} for place, row in enumerate(rows) for k in "12"])
    numbers = pd.DataFrame([row | {"k": "", "area": place, "hidden": 0} for place, row in enumerate(rows)])
    run = Run("net", "samples", {name: MethodInfo() for name in ("rap", "mine", "random")}, {"p": info},
              {"p": typed(table, info.metrics)}, {"p": typed(numbers, info.summaries)})  # fmt: skip
    found = Results([run]).ranks()
    assert set(zip(found["variant"], found["metric"], strict=True)) == {("", "area"), ("other", "curve")}


@pytest.mark.parametrize("better", ["higher", "lower"])
def test_noise_is_uninformative_and_what_is_real_is_not(better):
    """Of noise 5 % may be told apart, by chance."""
    n, chance = 100, 0
    for seed in range(40):
        draw = np.random.default_rng([seed, 1])
        real = {name: draw.normal(size=n) for name in METHODS}
        real["rap"] += 0.9 if better == "higher" else -0.9
        infos = {name: single(name, better) for name in ("noise", "real")}
        found = Results([run_of({"noise": noise(seed, n=n), "real": real}, infos)]).informative().set_index("protocol")
        assert (found.loc["real", "finding"], found.loc["real", "method"]) == ("told apart", "rap")
        assert found.loc["real", "gain"] > 0
        assert found.loc["noise", "method"] in ("lrp_a1b0", "rap", "mine")
        chance += found.loc["noise", "finding"] != "uninformative"
    assert chance <= 4


def test_what_is_said_of_noise():
    (row,) = (row for _, row in Results([run_of({"noise": noise(0, n=100)})]).informative().iterrows())
    best, random = NAMES.get(row["method"], row["method"]), NAMES["random"]
    assert finding_text(row) == f"uninformative: on 100 images it does not tell {best} from {random}"


def test_the_best_of_many_is_not_told_from_random_by_its_choice():
    """Of noise by nine methods the best one differs from a fixed one more often than in 5 of 100; that is corrected."""
    names = [f"m{number}" for number in range(9)] + ["random"]
    found = [Results([run_of({"noise": noise(seed, names, 100)})]).informative() for seed in range(60)]
    assert sum(one["p"].iloc[0] < 0.05 for one in found) > 6
    assert sum(one["finding"].iloc[0] != "uninformative" for one in found) <= 6


def test_fewer_than_100_images_call_nothing_uninformative():
    for n in (99, 100):
        (row,) = (row for _, row in Results([run_of({"noise": noise(0, n=n)})]).informative().iterrows())
        assert row["n"] == n
        few = "not shown on 99 images; 100 are needed to call it uninformative"
        assert (finding_text(row) == few) == (n == 99)
    real = {"rap": np.arange(20) + 5.0, "mine": np.arange(20), "random": np.arange(20)}
    assert Results([run_of({"real": real})]).informative()["finding"].tolist() == ["told apart"]


def test_the_test_is_the_verdicts():
    run = run_of({"a": noise(0, n=30), "b": noise(1, n=30)}, {"a": single("a"), "b": single("b", "lower")})
    found, judged = Results([run]).informative(), Results([run]).verdict()
    for _, row in found.iterrows():
        same = judged[(judged["protocol"] == row["protocol"]) & (judged["method"] == row["method"])
                      & (judged["control"] == "random")].iloc[0]  # fmt: skip
        assert row["gain"] == pytest.approx(same[f"{row['metric']}_gain"])
        assert row["p"] == pytest.approx(same[f"{row['metric']}_p"])
    corrected = np.minimum(1, found["p"] * 3)  # of three methods one was chosen
    order = np.argsort(corrected.to_numpy())
    first, second = corrected.to_numpy()[order]
    assert found["p_holm"].to_numpy()[order] == pytest.approx([min(1, 2 * first), max(min(1, 2 * first), second)])


def test_random_that_is_better_than_all_is_said_to_be():
    better = {"rap": np.zeros(20), "mine": -np.ones(20), "random": np.arange(20) + 1.0}
    (row,) = (row for _, row in Results([run_of({"a": better})]).informative().iterrows())
    assert row["finding"] == "random is better"
    assert "is better than RAP, the best of the others" in finding_text(row)


def test_what_is_not_finite_is_not_tested():
    values = {"rap": [np.inf, 1, 2], "mine": [np.inf, 1, 1], "random": [0.0, 0, 1]}
    found = Results([run_of({"a": values, "b": noise(0, ("rap", "mine", "random"), 3)})]).informative()
    assert found["finding"].tolist() == ["not tested", "not shown"]
    assert np.isnan(found["p_holm"].iloc[0])


def test_the_report_has_tables_figures_and_the_page(tmp_path):
    run = run_of({"noise": noise(0, n=100), "a_$b_^c": noise(1, n=100)})
    text = write_report(tmp_path, run)
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    markdown, latex, page = ((tmp_path / name).read_text("utf-8") for name in ("ranks.md", "ranks.tex", "report.html"))
    found = Results([run]).ranks()
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "ranks.csv", keep_default_na=False), found)
    for _, row in found.iterrows():
        for said in (text, markdown):
            assert f"{row['rank']:g} [{row['low']:g}, {row['high']:g}]" in said
        assert f"<b>{row['rank']:g}</b><small>[{row['low']:g}, {row['high']:g}]</small>" in page
    for said in (text, markdown, page):
        assert "uninformative: on 100 images it does not tell" in said
        assert "Kendall&#39;s W" in said or "Kendall's W" in said
    assert r"a\_\$b\_\textasciicircum{}c" in latex
    assert '<section id="ranking">' in page
    assert '"agreement of metrics"' in page
    assert set(pd.read_csv(tmp_path / "informative.csv")["finding"]) == {"uninformative"}


def test_an_earlier_reports_ranks_go(tmp_path):
    write_report(tmp_path, run_of({"a": noise(0), "b": noise(1)}))
    assert {path.name for path in tmp_path.iterdir()} >= FILES
    write_report(tmp_path, run_of({"a": noise(0)}))
    assert not {path.name for path in tmp_path.iterdir()} & FILES


@pytest.mark.parametrize(("values", "shown"), [
    ({"a": noise(0)}, False),
    ({"a": noise(0), "b": noise(1)}, True),
    ({"a": noise(0, ["rap", "random"]), "b": noise(1, ["rap", "random"])}, False),
    ({"a": noise(0, ["rap", "mine", "random"]), "b": noise(1, ["rap", "mine", "random"])}, True),
    ({"a": noise(0, ["rap", "mine"]), "b": noise(1, ["edge", "random"])}, True),
])  # fmt: skip
def test_ranks_are_shown_for_two_metrics_and_three_methods(tmp_path, values, shown):
    write_report(tmp_path, run_of(values))
    assert (tmp_path / "ranks.csv").exists() == shown


def test_without_random_nothing_is_called_uninformative(tmp_path):
    names = ("rap", "mine", "edge")
    text = write_report(tmp_path, run_of({"a": noise(0, names, 100), "b": noise(1, names, 100)}))
    assert "Which metrics are uninformative is not known" in text
    assert not (tmp_path / "informative.csv").exists()


@pytest.mark.parametrize("seed", range(2))
def test_the_order_of_rows_and_methods_moves_no_byte(tmp_path, seed):
    methods = ("lrp_a1b0", "rap", "edge", "random")
    run = run_of({"a": noise(0, methods), "b": noise(1, methods), "c": noise(2, methods)})
    for folder, one in (("one", run), ("other", shuffled(run, seed))):
        write_report(tmp_path / folder, one)
    for name in FILES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes(), name


def test_a_cell_that_is_there_twice_is_refused():
    run = run_of({"a": noise(0)})
    table = run.tables["a"]
    with pytest.raises(RapbenchError, match="twice"):
        Results([replace(run, tables={"a": pd.concat([table, table.iloc[:1]])})]).ranks()


def test_runs_on_other_images_have_ranks_without_intervals():
    one, other = run_of({"a": noise(0, ["rap"])}), run_of({"a": noise(1, ["random"])})
    found = Results([replace(one, inputs="one"), replace(other, inputs="other")]).ranks()
    assert found["rank"].tolist() in ([1, 2], [2, 1])
    assert found[["low", "high"]].isna().all(axis=None)
