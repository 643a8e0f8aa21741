"""Tests of pairs, verdicts against the controls and the comparison with the paper, on results worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from rapbench.report.pairs import pair_tests
from rapbench.report.paper import beside_paper, markdown_paper, sentence, totals
from rapbench.report.table1 import table1
from rapbench.report.verdict import NONE, caution, markdown_verdict, no_verdict, terminal_verdict, verdicts
from rapbench.results.published import published_table1

N = 10


def cell(method, k="250", correct=True, logit=0.0, sign="positive", perturbation="removal", n=N):
    return pd.DataFrame(
        {
            "image": [f"{i}.JPEG" for i in range(n)],
            "label": 0,
            "method": method,
            "sign": sign,
            "perturbation": perturbation,
            "k": k,
            "selected": 250,
            "predicted": 0,
            "correct": np.broadcast_to(correct, n),
            "logit": np.broadcast_to(logit, n).astype("float32"),
        }
    )


def spread(seed, n=N):
    return np.random.default_rng(seed).normal(size=n)


def one(table, **wanted):
    for key, value in wanted.items():
        table = table[table[key] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_pairs_by_hand():
    right = {"rap": [1, 1, 1, 1, 0, 0], "lrp_a1b0": [0, 0, 0, 1, 1, 0], "mine": [1, 1, 1, 1, 1, 1]}
    logits = {"rap": [1, 2, 3, 4, 5, 6], "lrp_a1b0": [0, 1, 1, 1, 1, 1], "mine": [1, 2, 3, 4, 5, 6]}
    parts = [cell(name, correct=np.array(right[name], bool), logit=logits[name], n=6) for name in right]
    table = pair_tests(pd.concat(parts).sample(frac=1, random_state=0))
    assert list(zip(table["metric"], table["method"], table["other"], strict=True)) == [
        (metric, *pair)
        for metric in ("accuracy", "score")
        for pair in [("lrp_a1b0", "rap"), ("lrp_a1b0", "mine"), ("rap", "mine")]
    ]
    rap = one(table, metric="accuracy", method="lrp_a1b0", other="rap")
    assert (rap["test"], rap["n"], rap["higher"], rap["lower"]) == ("McNemar", 6, 1, 3)
    assert rap["difference"] == pytest.approx(-100 / 3)
    assert rap["p"] == pytest.approx(2 * 5 / 16)  # of 4 discordant images at most 1 the one way
    mine = one(table, metric="accuracy", method="lrp_a1b0", other="mine")
    assert mine["p"] == pytest.approx(2 / 16)
    # 2/16 and 2/4 and 10/16 in one family of three: times 3, 2, 1, none below the one before it
    assert one(table, metric="accuracy", method="rap", other="mine")["p"] == pytest.approx(2 / 4)
    accuracy = table[table["metric"] == "accuracy"]
    assert accuracy["p_holm"].tolist() == pytest.approx([1, 3 / 8, 1])
    score = one(table, metric="score", method="rap", other="mine")
    assert (score["p"], score["higher"], score["lower"], score["test"]) == (1, 0, 0, "Wilcoxon")
    assert one(table, metric="score", method="lrp_a1b0", other="rap")["p"] == pytest.approx(2 / 64)


def test_a_familys_p_are_those_of_its_cell_alone():
    parts = [cell(name, k=k, logit=spread(ord(name) + len(k)), correct=spread(len(k) + ord(name)) > 0)
             for name in "abc" for k in ("250", "all")]  # fmt: skip
    together, apart = pair_tests(pd.concat(parts)), pair_tests(pd.concat(parts[::2]))
    pd.testing.assert_frame_equal(together[together["k"] == "250"].reset_index(drop=True), apart)


def test_pairs_share_images_or_are_left_out():
    few = cell("b", logit=spread(1)).iloc[:4]
    table = pair_tests(pd.concat([cell("a", logit=spread(0)), few, cell("c", logit=spread(2)).iloc[6:]]))
    assert set(zip(table["method"], table["other"], table["n"], strict=True)) == {("a", "b", 4), ("a", "c", 4)}
    differences = spread(0)[:4].astype("float32") - spread(1)[:4].astype("float32")
    found = one(table, metric="score", other="b")
    assert found["p"] == pytest.approx(stats.wilcoxon(differences).pvalue)
    assert found["difference"] == pytest.approx(differences.mean(), rel=1e-6)


def test_no_pairs_where_nothing_was_changed_or_no_other_method_is():
    parts = [cell("a", k="0"), cell("b", k="0"), cell("a")]
    assert pair_tests(pd.concat(parts)).empty
    assert list(pair_tests(pd.concat(parts))) == list(pair_tests(pd.concat([cell("a"), cell("b")])))


def test_a_logit_that_is_no_number_has_no_p_and_is_no_part_of_the_family():
    broken = cell("b", logit=[*spread(0)[1:], np.nan])
    table = pair_tests(pd.concat([cell("a", logit=spread(1)), broken, cell("c", logit=spread(1) + 1)]))
    score = table[table["metric"] == "score"].set_index(["method", "other"])
    assert np.isnan(score.loc[("a", "b"), ["p", "p_holm"]].astype(float)).all()
    assert score.loc[("a", "c"), "p_holm"] == score.loc[("a", "c"), "p"] == pytest.approx(2 / 2**N)


def test_mcnemars_p_in_a_table_are_statsmodels():
    parts = [cell(name, correct=spread(seed, 60) > 0, n=60) for seed, name in enumerate("abcd")]
    wide = pd.concat(parts).pivot(index="image", columns="method", values="correct")
    for row in pair_tests(pd.concat(parts)).query("metric == 'accuracy'").itertuples():
        counts = pd.crosstab(wide[row.method], wide[row.other])
        assert row.p == pytest.approx(mcnemar(counts, exact=True).pvalue)


def against_random(method_logit, random_logit, sign="positive", correct=(True, True)):
    parts = []
    for k in ("250", "500"):
        parts += [cell("rap", k, correct[0], method_logit, sign), cell("random", k, correct[1], random_logit, sign)]
    return verdicts(pd.concat(parts))


@pytest.mark.parametrize(("sign", "lower"), [("positive", "better"), ("negative", "worse")])
def test_which_way_is_better_hangs_on_the_sign(sign, lower):
    low, high = spread(0) - 10, spread(0)
    row = against_random(low, high, sign).iloc[0]
    assert row["verdict"] == lower
    assert row["score_gain"] == pytest.approx(10 if lower == "better" else -10, abs=1e-5)
    assert row["score_p"] == pytest.approx(2 / 2**N)
    assert row["score_p_holm"] == pytest.approx(4 / 2**N)  # two metrics of one method are the family
    assert (row["accuracy_p"], row["accuracy_gain"]) == (1, 0)
    assert against_random(high, low, sign).iloc[0]["verdict"] == {"better": "worse", "worse": "better"}[lower]


def test_a_verdict_by_both_metrics_by_one_and_by_none():
    low, high = spread(0) - 10, spread(0)
    assert "| ✓ better " in markdown_verdict(against_random(low, high, correct=(False, True)), "")
    assert "| ✓ better (score) " in markdown_verdict(against_random(low, high), "")
    assert "| ✓ better (accuracy) " in markdown_verdict(against_random(high, high, correct=(False, True)), "")
    assert f"| ≈ {NONE} " in markdown_verdict(against_random(high, high), "")
    assert "| ✗ worse (score) " in markdown_verdict(against_random(high, low), "")
    contradiction = against_random(high, low, correct=(False, True))
    assert contradiction.iloc[0]["verdict"] == "mixed"
    assert "| ± mixed " in markdown_verdict(contradiction, "")


def test_few_images_are_no_verdict_and_that_is_said():
    parts = [cell(name, n=5, logit=spread(0, 5) - (name == "rap")) for name in ("rap", "random")]
    table = verdicts(pd.concat(parts))
    assert table.iloc[0]["verdict"] == NONE  # twice 2 / 2^5 is not below 0.05, however large the difference
    for text in (markdown_verdict(table, ""), terminal_verdict(table)):
        assert "5 images are few" in text
        assert "too few to show any difference" in text
    more = [cell(name, n=8, logit=spread(name == "rap", 8)) for name in ("rap", "random")]
    assert "too few to show any difference" not in caution(verdicts(pd.concat(more)))
    assert caution(verdicts(pd.concat(more))).startswith("8 images are few")
    clear = [cell(name, n=8, logit=spread(0, 8) - (name == "rap")) for name in ("rap", "random")]
    assert caution(verdicts(pd.concat(clear))) == ""  # what is shown is shown, with few images too
    many = [cell(name, n=100, logit=spread(0, 100)) for name in ("rap", "random")]
    assert "few" not in markdown_verdict(verdicts(pd.concat(many)), "")


def test_all_and_none_are_no_part_of_a_verdict():
    low, high = spread(0) - 10, spread(0)
    parts = [cell("rap", "250", logit=low), cell("random", "250", logit=high)]
    alone = verdicts(pd.concat(parts))
    more = [cell("rap", k, False, high + 99) for k in ("0", "all")]
    more += [cell("random", k, True, low) for k in ("0", "all")]
    pd.testing.assert_frame_equal(verdicts(pd.concat(parts + more)), alone)
    assert alone.iloc[0]["ks"] == "250"
    only_all = verdicts(pd.concat([part[part["k"] != "0"] for part in more]))
    assert (only_all.iloc[0]["ks"], only_all.iloc[0]["verdict"]) == ("all", "mixed")


def test_a_verdict_is_over_the_mean_of_all_k_of_both():
    one_k, other_k = spread(0), spread(1)
    parts = [cell("rap", "250", logit=one_k), cell("rap", "500", logit=other_k), cell("rap", "7", logit=99)]
    parts += [cell("random", "250", logit=spread(2)), cell("random", "500", logit=spread(3))]
    row = verdicts(pd.concat(parts)).iloc[0]
    differences = (spread(2) + spread(3) - one_k - other_k) / 2
    assert row["ks"] == "250 500"
    assert row["score_gain"] == pytest.approx(differences.mean(), rel=1e-6)
    assert row["score_p"] == pytest.approx(stats.wilcoxon(differences).pvalue)


def test_each_control_is_a_family_of_its_own_and_is_not_judged():
    low, high = spread(0) - 10, spread(0)
    parts = [cell("rap", logit=low), cell("edge", logit=low - 1), cell("random", logit=high)]
    parts += [cell("rap", sign="negative", logit=high), cell("random", sign="negative", logit=low)]
    table = verdicts(pd.concat(parts))
    assert list(zip(table["sign"], table["control"], table["method"], table["verdict"], strict=True)) == [
        ("positive", "random", "rap", "better"),
        ("positive", "edge", "rap", "worse"),
        ("negative", "random", "rap", "better"),
    ]
    assert table["score_p_holm"].tolist() == pytest.approx([4 / 2**N] * 3)
    text = terminal_verdict(table)
    assert "removal of positive pixels, against Random\n  ✓ better: RAP\n" in text
    assert "removal of positive pixels, against Edges\n  ✗ worse: RAP\n" in text
    assert "removal of negative pixels, against Random\n  ✓ better: RAP\n" in text


def test_without_a_control_there_is_no_verdict():
    images = cell("rap")
    table = verdicts(images)
    assert table.empty
    assert markdown_verdict(table, no_verdict(images)).endswith(no_verdict(images))
    assert terminal_verdict(table) == ""


@pytest.mark.parametrize(
    ("methods", "says"),
    [
        (["rap"], "No control (Random, Edges) is among the methods"),
        (["random"], "Only Random ran, and a control is not compared with itself"),
        (["random", "edge"], "Only Edges and Random ran"),
    ],
)
def test_why_there_is_no_verdict(methods, says):
    images = pd.concat(cell(name) for name in methods)
    assert verdicts(images).empty
    assert says in no_verdict(images)


def test_without_anything_in_common_there_is_no_verdict():
    images = pd.concat([cell("rap").iloc[:5], cell("random").iloc[5:], cell("edge", k="500")])
    assert verdicts(images).empty
    assert "in common with Edges or Random" in no_verdict(images)


def test_a_control_of_another_name_is_not_judged_and_others_are_compared_with_it():
    images = pd.concat([cell("rap", logit=spread(0) - 10), cell("noise", logit=spread(0)), cell("random")])
    table = verdicts(images, ["noise", "random"])
    assert list(zip(table["control"], table["method"], strict=True)) == [("random", "rap"), ("noise", "rap")]


def rap_at(k, hits, n=20, **options):
    return cell("rap", k, np.arange(n) < hits, spread(1, n) + 17, n=n, **options)


def test_the_papers_value_lies_inside_or_not():
    images = pd.concat([rap_at("250", 18), rap_at("500", 3), rap_at("300", 3), rap_at("0", 20)])
    cells = beside_paper(table1(images), published_table1())
    assert set(cells["k"]) == {"0", "250", "500"}  # the paper has no 300
    inside, outside = one(cells, metric="accuracy", k="250"), one(cells, metric="accuracy", k="500")
    assert (inside["paper"], inside["inside"], inside["agrees"]) == (88.8, "yes", "yes")
    assert inside["difference"] == pytest.approx(90 - 88.8)
    assert inside["low"] < 88.8 < inside["high"]
    assert (outside["paper"], outside["inside"], outside["agrees"]) == (78.8, "no", "no")
    assert outside["high"] < 78.8


def test_agreement_counts_the_papers_sampling_error_too():
    images = cell("rap", "250", np.arange(500) < 427, spread(1, 500), n=500)  # 85.4; the paper has 88.8
    row = one(beside_paper(table1(images), published_table1()), metric="accuracy")
    assert row["high"] < 88.8
    assert (row["inside"], row["agrees"]) == ("no", "yes")
    assert row["difference_low"] < 0 < row["difference_high"]


@pytest.mark.parametrize("n", [20, 500])
def test_the_difference_of_scores_is_of_our_spread_on_500_images(n):
    images = cell("rap", "250", True, spread(1, n), n=n)
    row = one(beside_paper(table1(images), published_table1()), metric="score")
    below, above, narrower = row["value"] - row["low"], row["high"] - row["value"], (n / 500) ** 0.5
    assert row["difference_low"] == pytest.approx(row["difference"] - np.hypot(below, narrower * above), abs=1e-9)
    assert row["difference_high"] == pytest.approx(row["difference"] + np.hypot(above, narrower * below), abs=1e-9)


def test_misprints_and_missing_intervals_are_not_counted():
    images = [cell("pattern_attribution", k, spread(0) > 0, spread(0), perturbation=perturbation)
              for k in ("0", "4000", "all") for perturbation in ("removal", "shuffling")]  # fmt: skip
    images.append(cell("rap", n=1))
    cells = beside_paper(table1(pd.concat(images)), published_table1())
    assert cells[cells["inside"] == "misprint"][["metric", "perturbation", "k"]].values.tolist() == [
        ["accuracy", "shuffling", "all"],
        ["score", "removal", "all"],
    ]
    assert one(cells, method="rap", metric="score")["inside"] == ""
    counted = totals(cells)
    pattern = one(counted, method="pattern_attribution")
    assert (pattern["cells"], pattern["misprints"]) == (6, 2)  # 2 metrics, 2 perturbations, 2 K above 0, but 2
    assert one(counted, method="rap")["cells"] == 1
    total = counted.iloc[-1]
    assert (total["method"], total["cells"], total["misprints"]) == ("", 7, 2)
    known = cells[(cells["k"] != "0") & (cells["inside"] == "yes")]
    assert total["inside"] == len(known)
    assert f"in {len(known)} of 7 cells" in sentence(counted)
    assert "2 misprinted cells are not counted" in sentence(counted)
    assert "| all " in markdown_paper(cells)


def test_a_table_without_a_cell_of_the_papers_is_not_compared():
    cells = beside_paper(table1(cell("random")), published_table1())
    assert cells.empty
    assert markdown_paper(cells) == ""


def test_nothing_to_count_is_said():
    cells = beside_paper(table1(cell("rap", k="0")), published_table1())
    assert sentence(totals(cells)).startswith("No cell above K = 0 ")
