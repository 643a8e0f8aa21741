"""Results of several runs: rows told apart, ranks, agreement and paired tests on worked numbers."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import friedmanchisquare

from rapbench.api.results import Results
from rapbench.core.errors import RapbenchError
from rapbench.protocols.base.metric import Metric
from rapbench.report.compare import FILES, write_comparison
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.ranks import agreement, kendalls_w, ranks
from rapbench.results.run import Run, typed

LOGIT = Metric("logit", {"positive": "lower", "negative": "higher"})
SHARE = Metric("accuracy", {"positive": "lower", "negative": "higher"}, unit="%", kind="share")
AREA = Metric("area", {"positive": "higher"}, axis=None)
INFO = ProtocolInfo((SHARE, LOGIT), (AREA,))
TITLES = {"rap": "RAP", "random": "Random ranking", "edge": "Edges"}


def run(
    methods: Sequence[str] | Mapping[str, dict[str, Any]] = ("rap",),
    *,
    model: str = "net",
    data: str = "samples",
    images: str = "a",
    n: int = 9,
    ks: Sequence[str] = ("0", "250", "500", "all"),
    protocol: Mapping[str, Any] | None = None,
    moves: int = 0,
    **config: Any,
) -> Run:
    """Return a run with numbers that its method, its options, the model and `moves` determine, and nothing else."""
    given = dict(methods) if isinstance(methods, Mapping) else {label: {} for label in methods}
    rows, numbers = [], []
    for label, options in given.items():
        for image in range(n):
            for sign in ("positive", "negative"):
                place = {"input": f"{images}{image}", "label": image, "method": label, "variant": sign}
                seeds = [*f"{label} {sorted(options.items())} {model} {protocol} {sign}".encode(), image, moves]
                for k in ks:
                    draw = np.random.default_rng([*seeds, *k.encode()])
                    rows.append(place | {"k": k, "accuracy": draw.random() < 0.5, "logit": draw.normal()})
                numbers.append(place | {"k": "", "area": np.random.default_rng(seeds).normal()})
    info = replace(INFO, options=protocol or {})
    infos = {label: MethodInfo(TITLES.get(label, ""), label in ("random", "edge"), options)
             for label, options in given.items()}  # fmt: skip
    settings = {"seed": 0, "model": {"name": model}, "data": {"name": data}, "output": f"{methods}{config}"} | config
    return Run(model, data, infos, {"removal": info}, {"removal": typed(pd.DataFrame(rows), info.metrics)},
               {"removal": typed(pd.DataFrame(numbers), info.summaries)}, images, {"config": settings})  # fmt: skip


def named(*runs: Run) -> set[str]:
    return set(Results(runs)._merged().methods)


APART: dict[str, tuple[Callable[[], list[Run]], set[str]]] = {
    "methods": (lambda: [run(["rap"]), run(["random"])], {"rap", "random"}),
    "option": (lambda: [run(), run({"rap": {"residual": "absolute"}})], {"rap", "RAP (residual absolute)"}),
    "options": (lambda: [run(), run({"rap": {"residual": "absolute", "flow": "up"}})],
                {"rap", "RAP (flow up, residual absolute)"}),
    "untitled": (lambda: [run(["mine"]), run({"mine": {"width": 3}})], {"mine", "mine (width 3)"}),
    "model": (lambda: [run(), run(model="other")], {"net: RAP", "other: RAP"}),
    "data": (lambda: [run(), run(data="others", images="b")], {"samples: RAP", "others: RAP"}),
    "both": (lambda: [run(), run(model="other", data="others")], {"net: samples: RAP", "other: others: RAP"}),
    "seed": (lambda: [run(), run(moves=1, seed=1)], {"RAP (seed 0)", "RAP (seed 1)"}),
    "seed of one": (lambda: [run(["rap", "edge"]), run(moves=1, seed=1)], {"RAP (seed 0)", "RAP (seed 1)", "edge"}),
    "its own seed": (lambda: [run({"rap": {"seed": 5}}), run({"rap": {"seed": 5}}, moves=1, seed=1)],
                     {"RAP (run.seed 0, seed 5)", "RAP (run.seed 1, seed 5)"}),
    "subset": (lambda: [run(n=4, subset={"n": 4}), run(subset={"n": 9})], {"RAP (subset.n 4)", "RAP (subset.n 9)"}),
    "a shared control": (lambda: [run(["rap", "random"]), run(["edge", "random"], name="b")],
                         {"rap", "random", "edge"}),
    "rounding": (lambda: [run(batch=1), run(moves=1, batch=2)], {"RAP (batch 1)", "RAP (batch 2)"}),
    "name": (lambda: [run(name="before"), run(moves=1, name="after")], {"RAP (name before)", "RAP (name after)"}),
}  # fmt: skip


def variant(title: str = "RAP (normal flow)", **more: Any) -> Run:
    """Return a run of a variant that is given a title."""
    one = run({"rap_normal": {"flow": "normal", **more}})
    info = replace(one.methods["rap_normal"], title=title, titled=("flow", *more))
    return replace(one, methods={"rap_normal": info})


APART["a titled variant"] = (lambda: [run(), variant()], {"rap", "RAP (normal flow)"})
APART["an option of a titled variant"] = (
    lambda: [variant(), variant(residual="absolute")],
    {"RAP (normal flow)", "RAP (normal flow) (residual absolute)"},
)
APART["a titled variant in two models"] = (
    lambda: [variant(), replace(variant(), model="other")],
    {"net: RAP (normal flow)", "other: RAP (normal flow)"},
)
APART["option of the model"] = (
    lambda: [replace(one, about={"config": {"model": {"name": "net", "weights": name}}})
             for name, one in zip("AB", [run(), run(moves=1)], strict=True)],
    {"RAP (model.weights A)", "RAP (model.weights B)"},
)  # fmt: skip


@pytest.mark.parametrize("what", APART)
def test_rows_are_named_by_what_tells_them_apart(what):
    """In every view: the figure's and page's names, the table's and frame's columns, the ranks."""
    make, names = APART[what]
    runs = make()
    results = Results(runs)
    assert named(*runs) == names
    keys = ["model", "data", "method", "options", "protocol", "variant", "metric", "k"]
    table, frame = results.table(), results.frame
    assert not table.duplicated(keys).any()
    assert not frame.duplicated([*keys, "input"]).any()
    assert len(table[keys[:4]].drop_duplicates()) == len(frame[keys[:4]].drop_duplicates()) == len(names)
    ranked = results.ranks()
    assert not ranked.duplicated(["model", "data", "protocol", "variant", "metric", "method"]).any()
    known = {name.rpartition(": ")[2].split(" (")[0].replace("Random ranking", "random") for name in names}
    assert {name.split(" (")[0].replace("rap", "RAP") for name in ranked["method"]} == {
        name.replace("rap", "RAP") for name in known}  # fmt: skip


def test_order_of_runs_does_not_matter():
    runs = [run(["rap", "random"]), run({"rap": {"residual": "absolute"}}), run(model="other"), run(moves=1, seed=1)]
    keys = ["model", "data", "method", "options", "protocol", "variant", "metric", "k"]
    one, other = (Results(some).table().sort_values(keys, ignore_index=True) for some in (runs, runs[::-1]))
    pd.testing.assert_frame_equal(one, other)


def test_protocols_that_differ_in_options_are_told_apart():
    runs = [run(["rap", "random"]), run(["rap", "random"], protocol={"fill": "mean"})]
    results = Results(runs)
    assert list(results._merged().tables) == ["removal", "removal (fill mean)"]
    for protocol, one in zip(["removal", "removal (fill mean)"], runs, strict=True):
        for view in (Results.table, Results.ranks):
            found = view(results)
            found = found[found["protocol"] == protocol].drop(columns="protocol").reset_index(drop=True)
            pd.testing.assert_frame_equal(found, view(Results([one])).drop(columns="protocol"))
    assert set(results.compare()["protocol"]) == {"removal", "removal (fill mean)"}


@pytest.mark.parametrize(("make", "says"), [
    (lambda: [run(output="a"), run(output="b")],
     "two runs have the same results of net on samples (rap by removal, in a and b); name different runs"),
    (lambda: [run(), run(name="copy", results="elsewhere")], "two runs have the same results"),
    (lambda: [run(), run(moves=1)], "rap is there twice by removal, with other numbers"),
    (lambda: [run(["rap", "edge"]), run(["rap", "random"], moves=1)], "rap is there twice by removal, with other num"),
    (lambda: [run(seed=1), run(), run(moves=1)], "RAP (seed 0) is there twice by removal, with other numbers"),
])  # fmt: skip
@pytest.mark.parametrize("view", ["table", "ranks", "compare", "plot"])
def test_a_row_that_is_there_twice_is_refused(make, says, view):
    with pytest.raises(RapbenchError, match=f"^{re.escape(says)}"):
        getattr(Results(make()), view)()


def test_means_of_several_runs_are_those_of_each():
    runs = [run(["rap", "random"]), run({"rap": {"residual": "absolute"}}), run(model="other")]
    whole = pd.concat([Results([one]).table() for one in runs])
    keys = list(whole.columns[:8])
    one, other = (table.sort_values(keys, ignore_index=True) for table in (Results(runs).table(), whole))
    pd.testing.assert_frame_equal(one, other)


def test_tests_across_runs_are_those_within_one():
    """Whatever is computed together: the same pairs, the same p, the same families."""
    together = Results([run(["edge", "rap", "random"])])
    apart = Results([run(["edge"]), run(["rap", "random"]), run(["rap", "random"], model="other")])
    found = apart.compare().query("model == 'net'").reset_index(drop=True)
    assert len(found) == (2 * 3 + 1) * 3 * 2  # metrics by K, and the area; pairs; signs
    pd.testing.assert_frame_equal(found, together.compare())
    keys = ["variant", "metric", "k", "method", "other"]
    for _, row in found.iterrows():
        frame = run(["edge", "rap", "random"]).frame
        cell = frame[(frame["metric"] == row["metric"]) & (frame["variant"] == row["variant"])]
        cell = cell[cell["k"] == row["k"]].pivot(index="input", columns="method", values="value")
        difference = cell[row["method"]] - cell[row["other"]]
        assert row["higher"] == (difference > 0).sum(), row[keys]
        assert row["n"] == 9


def test_a_verdict_finds_its_control_in_another_run():
    together, apart = Results([run(["rap", "random"])]), Results([run(["rap"]), run(["random"])])
    pd.testing.assert_frame_equal(apart.verdict(), together.verdict())
    assert len(apart.verdict())


def test_runs_on_other_images_have_no_tests_and_say_so(tmp_path):
    results = Results([run(["rap"]), run(["random"], images="b")])
    with pytest.raises(RapbenchError, match=r"^no paired tests of net: the runs are of different images; subset\."):
        results.compare()
    text = write_comparison(tmp_path, results)
    assert "No paired tests: the runs are of different images; subset.require=" in text
    assert "Tests are paired" not in text
    assert not (tmp_path / "tests.csv").exists()
    assert len(pd.read_csv(tmp_path / "ranks.csv"))


def test_the_same_names_of_other_images_are_no_pairs():
    with pytest.raises(RapbenchError, match="no paired tests of net"):
        Results([run(["rap"]), replace(run(["random"]), inputs="others")]).compare()


def test_models_with_images_of_their_own_have_tests_each(tmp_path):
    results = Results([run(["rap"]), run(["random"]), run(["rap", "random"], model="other", images="b")])
    text = write_comparison(tmp_path, results)
    assert "Tests are paired over images and compare methods of the same model." in text
    assert "Compare models or data sets with care: the runs are of different images" in text
    assert set(pd.read_csv(tmp_path / "tests.csv")["model"]) == {"net", "other"}


OF_ONE_MODEL = {"ranks.png", "ranks.pdf", "metric_agreement.png", "metric_agreement.pdf"}
OF_METRICS = {"metric_agreement.csv", "concordance.csv", "informative.csv"}

# Means at each K, by model and method; 0 and all do not count where there is another K.
WORKED = {
    "one": {"rap": [9, 1, 2, 9], "edge": [9, 3, 4, 0], "random": [9, 2, 1, 0], "mine": [9, 5, 5, 5]},
    "two": {"rap": [9, 1, 1, 9], "edge": [9, 2, 2, 9], "random": [9, 4, 4, 9], "mine": [9, 3, 3, 9]},
    "three": {"rap": [9, 2, 2, 9], "edge": [9, 1, 1, 9], "random": [9, 3, 3, 9], "mine": [9, 4, 4, 9]},
}
RANKED = {  # lower is better
    "one": {"rap": 1.5, "random": 1.5, "edge": 3, "mine": 4},
    "two": {"rap": 1, "edge": 2, "mine": 3, "random": 4},
    "three": {"edge": 1, "rap": 2, "random": 3, "mine": 4},
}


def worked(better: str = "lower", ks: Sequence[str] = ("0", "250", "500", "all")) -> pd.DataFrame:
    rows = [{"model": model, "data": "samples", "protocol": "removal", "variant": "positive", "metric": "logit",
             "method": method, "k": k, "value": float(value), "better": better}
            for model, methods in WORKED.items() for method, values in methods.items()
            for k, value in zip(ks, values, strict=True)]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize("better", ["lower", "higher"])
def test_ranks_are_those_worked_out_by_hand(better):
    found = ranks(worked(better)).set_index(["model", "method"])["rank"]
    for model, methods in RANKED.items():
        for method, rank in methods.items():
            assert found[model, method] == (rank if better == "lower" else 5 - rank)


def test_agreement_is_friedmans_statistic_and_the_ranks_of_its_own_methods():
    found = agreement(ranks(worked()))
    mine = np.array([[RANKED[model][method] for method in sorted(RANKED[model])] for model in RANKED])
    statistic, p = friedmanchisquare(*mine.T)
    assert found["w"].unique() == pytest.approx([statistic / (3 * 3)])
    assert found["p"].unique() == pytest.approx([p])
    assert dict(zip(found["method"], found["mean_rank"], strict=True)) == {
        "rap": 1.5, "edge": 2.0, "random": pytest.approx(8.5 / 3), "mine": pytest.approx(11 / 3)}  # fmt: skip
    # A method that one model lacks does not count, nor take a rank from the others.
    fewer = worked().query("not (model == 'two' and method == 'edge')")
    without = worked().query("method != 'edge'")
    pd.testing.assert_frame_equal(agreement(ranks(fewer)), agreement(ranks(without)))


@pytest.mark.parametrize("seed", range(20))
def test_kendalls_w_with_ties_is_scipys(seed):
    draw = np.random.default_rng(seed)
    raters, items = draw.integers(2, 7), draw.integers(3, 9)
    values = draw.integers(0, 4, (raters, items))
    ranked = pd.DataFrame(values).rank(axis=1).to_numpy()
    w, p = kendalls_w(ranked)
    statistic, expected = friedmanchisquare(*values.T)
    assert w == pytest.approx(statistic / (raters * (items - 1)))
    assert p == pytest.approx(expected)


def test_kendalls_w_at_its_ends():
    assert kendalls_w(np.array([[1, 2, 3]] * 4, dtype=float))[0] == 1
    assert kendalls_w(np.array([[1, 2, 3], [3, 2, 1]], dtype=float))[0] == 0
    assert np.isnan(kendalls_w(np.full((3, 4), 2.5))).all()


def test_ranks_are_over_the_steps_that_all_methods_have():
    table = worked()
    one = table["model"] == "one"
    # Without K = 250 of rap, 500 alone counts: random 1, rap 2, edge 4, mine 5.
    found = ranks(table[~(one & (table["method"] == "rap") & (table["k"] == "250"))])
    assert found.query("model == 'one'").set_index("method")["rank"].to_dict() == {
        "random": 1, "rap": 2, "edge": 3, "mine": 4}  # fmt: skip
    assert found.query("model == 'two'").set_index("method")["rank"].to_dict() == RANKED["two"]
    # A number that is none is no step; a method without any has no rank and takes no step from the others.
    table.loc[one & (table["method"] == "rap") & (table["k"] == "250"), "value"] = np.nan
    assert ranks(table).query("model == 'one' and method == 'random'")["rank"].item() == 1
    table.loc[one & (table["method"] == "edge"), "value"] = np.nan
    left = ranks(table).query("model == 'one'").set_index("method")["rank"].to_dict()
    assert left == {"random": 1, "rap": 2, "mine": 3}


def test_all_counts_where_there_is_no_other_step():
    only = worked().query("k in ('0', 'all')")
    found = ranks(only).query("model == 'one'").set_index("method")["rank"].to_dict()
    assert found == {"edge": 1.5, "random": 1.5, "mine": 3, "rap": 4}


def test_a_comparison_is_one_page_one_figure_and_its_tables(tmp_path):
    runs = [run(["rap", "random", "edge"]), run(["rap", "random", "edge"], model="other"),
            run({"rap": {"residual": "absolute"}})]  # fmt: skip
    text = write_comparison(tmp_path, Results(runs))
    assert {path.name for path in tmp_path.iterdir()} == set(FILES) - OF_ONE_MODEL
    assert text.startswith("Comparison of 3 runs: net, other.\n")
    table = pd.read_csv(tmp_path / "compare.csv", dtype={"k": str}, keep_default_na=False)
    wanted = Results(runs).table()
    assert len(table) == len(wanted)
    mean = wanted.query("model == 'other' and method == 'edge' and metric == 'logit' and k == '500'")["value"]
    page = (tmp_path / "compare.html").read_text("utf-8")
    for value in mean:
        for said in (text, (tmp_path / "compare.md").read_text(), (tmp_path / "compare.tex").read_text(), page):
            assert f"{abs(value):.2f}" in said
    for name in ("net: RAP (residual absolute)", "net: RAP", "other: Edges"):
        assert name in text
        assert name in page
    for section in ("verdict", "ranks", "tests"):
        assert f'<section id="{section}">' in page
    assert "Against the controls" in text
    judged = pd.read_csv(tmp_path / "verdict.csv", keep_default_na=False)
    assert set(judged["model"]) == {"net", "other"}
    assert len(judged) == len(Results(runs).verdict())
    assert "Each run has its own, in its folder." in page
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write_comparison(tmp_path, Results(runs))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_comparison(tmp_path, Results([run(["rap"]), run(["random"], images="b")]))
    assert {path.name for path in tmp_path.iterdir()} == set(FILES) - OF_ONE_MODEL - OF_METRICS - {
        "agreement.csv", "verdict.csv", "tests.csv"}  # fmt: skip


def test_a_comparison_says_of_each_model_how_far_metrics_agree(tmp_path):
    methods = ["rap", "mine", "random", "edge"]
    runs = [run(methods[:2]), run(methods[2:]), run(methods, model="other")]
    text = write_comparison(tmp_path, Results(runs))
    table = pd.read_csv(tmp_path / "concordance.csv")
    assert table[["model", "over"]].to_numpy().tolist() == [[model, "all"] for model in ("net", "other")]
    for place, w in zip(("net on samples", "other on samples"), table["w"], strict=True):
        assert f"{place}: 3 metrics: W = {w:.2f}" in text
        assert f"{place}: 3 metrics: W = {w:.2f}" in (tmp_path / "compare.html").read_text("utf-8")
    assert "not shown on 9 images; 100 are needed to call it uninformative" in text
    for file, found in (("ranks.csv", Results(runs).ranks()), ("informative.csv", Results(runs).informative()),
                        ("metric_agreement.csv", Results(runs).metric_agreement())):  # fmt: skip
        got = pd.read_csv(tmp_path / file, keep_default_na=False, na_values={"low": "", "high": ""})
        assert got["model"].tolist() == found["model"].tolist()


def test_a_comparison_of_one_models_runs_has_the_ranks_of_a_report(tmp_path):
    """The same as one run of all its methods."""
    methods = ["rap", "mine", "random", "edge"]
    apart, whole = Results([run(methods[:2]), run(methods[2:])]), Results([run(methods)])
    text = write_comparison(tmp_path / "apart", apart)
    whole.report(tmp_path / "whole")
    for name in ("ranks.csv", *OF_METRICS):
        one, other = (pd.read_csv(tmp_path / folder / name) for folder in ("apart", "whole"))
        pd.testing.assert_frame_equal(one, other)
    assert {path.name for path in (tmp_path / "apart").iterdir()} >= OF_ONE_MODEL | OF_METRICS
    page = (tmp_path / "apart" / "compare.html").read_text("utf-8")
    assert '<section id="ranking">' in page
    assert '<section id="ranks">' not in page
    assert "Kendall's W says how far the metrics agree" in text


def test_the_figures_legend_lies_within_it(tmp_path):
    long = {"rap": {f"option_{number}": "absolute" for number in range(3)}}
    for runs in ([run(["rap", "random", "edge"]), run(long), run(long, model="other")], [run(), run(["edge"])]):
        figure = Results(runs).plot()
        (legend,) = figure.legends
        figure.canvas.draw()
        assert legend.get_window_extent().x0 >= 0
        assert legend.get_window_extent().x1 <= figure.bbox.x1
        assert len(legend.get_texts()) == len(Results(runs)._merged().methods)


def test_saved_runs_are_loaded_and_compared_again(tmp_path):
    import rapbench

    runs = [run(["rap", "random"]), run({"rap": {"residual": "absolute"}})]
    Results(runs).save(tmp_path)
    again = rapbench.load_results(tmp_path)
    pd.testing.assert_frame_equal(again.table(), Results(runs).table())
    pd.testing.assert_frame_equal(rapbench.load_results(tmp_path, tmp_path).table(), Results(runs).table())
