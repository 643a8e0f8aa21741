"""Intervals and tests against closed forms, hand-worked examples and independent implementations."""

import itertools

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

from rapbench.report.statistics import bootstrap_means, difference_interval, holm, mcnemar, wilcoxon, wilson

Z = 1.959963984540054  # the normal's 97.5th percentile


@pytest.mark.parametrize(("correct", "n"), [(0, 1), (1, 1), (0, 19), (17, 19), (19, 19), (250, 500), (499, 500)])
def test_wilson_is_the_closed_form(correct, n):
    p = correct / n
    centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    assert wilson(correct, n) == pytest.approx((100 * (centre - half), 100 * (centre + half)), abs=1e-9)


def test_wilson_stays_between_0_and_100():
    assert wilson(0, 5)[0] == 0
    assert wilson(5, 5)[1] == 100


@pytest.mark.parametrize(("first", "second", "p"), [
    (0, 0, 1.0), (1, 0, 1.0), (0, 5, 2 / 32), (5, 0, 2 / 32), (1, 6, 2 * 8 / 128), (3, 3, 1.0), (2, 9, 2 * 67 / 2048),
])  # fmt: skip
def test_mcnemar_by_hand(first, second, p):
    assert mcnemar(np.array([first]), np.array([second]))[0] == pytest.approx(p, rel=1e-12)


def test_mcnemar_is_statsmodels():
    counts = np.array(list(itertools.product(range(0, 40, 3), repeat=2)))
    theirs = [statsmodels_mcnemar([[7, one], [other, 2]], exact=True).pvalue for one, other in counts]
    assert mcnemar(counts[:, 0], counts[:, 1]) == pytest.approx(theirs, abs=1e-12)


def test_wilcoxon_by_hand():
    assert wilcoxon(np.array([1.0, 2.0, 3.0, 4.0]))[0] == pytest.approx(2 / 16)  # all signs alike: 2 of 2^4
    assert wilcoxon(np.array([-1.0, 2.0, 3.0, 4.0]))[0] == pytest.approx(4 / 16)
    assert wilcoxon(np.array([1.0, 1.0, 1.0]))[0] == pytest.approx(2 / 8)  # tied: the same
    # ranks 1.5, 1.5, 3; the negative ones sum to 1.5: of 8 sign patterns, 3 have a sum of 1.5 or less
    assert wilcoxon(np.array([1.0, -1.0, 2.0]))[0] == pytest.approx(2 * 3 / 8)


def test_wilcoxon_without_a_difference_and_without_a_number():
    assert wilcoxon(np.zeros(7)) == (1, 0)
    assert wilcoxon(np.array([])) == (1, 0)
    assert np.isnan(wilcoxon(np.array([1.0, np.nan]))[0])


@pytest.mark.parametrize("n", [1, 5, 19, 50, 51, 500])
def test_wilcoxon_is_scipys_without_ties(n):
    differences = np.random.default_rng(n).normal(0.2, 1, n)
    assert wilcoxon(differences)[0] == pytest.approx(stats.wilcoxon(differences, zero_method="wilcox").pvalue, rel=1e-9)
    assert wilcoxon(np.append(differences, [0, 0])) == wilcoxon(differences)


def test_wilcoxon_with_ties_is_the_permutation_test():
    differences = np.array([1, 1, -1, 2, 2, 3, -3, 4, 5, 5, 5], float) / 7
    theirs = stats.wilcoxon(differences, method=stats.PermutationMethod(n_resamples=np.inf)).pvalue
    assert wilcoxon(differences)[0] == pytest.approx(theirs, rel=1e-9)
    assert wilcoxon(-differences)[0] == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("n", [6, 60])
def test_wilcoxon_says_where_the_ranks_lean(n):
    differences = np.arange(1.0, n + 1)
    assert wilcoxon(differences)[1] == 1
    assert wilcoxon(-differences)[1] == -1
    differences[: n - 1] *= -1  # one large image outweighs the others in the mean, not in the ranks
    differences[-1] = 1e6
    assert wilcoxon(differences)[1] == -1
    assert wilcoxon(np.array([1.0, -1.0]))[1] == 0


def test_holm_by_hand():
    # sorted 0.005, 0.01, 0.03, 0.04 times 4, 3, 2, 1 and never falling: 0.02, 0.03, 0.06, 0.06
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.7, 0.9])) == pytest.approx([1, 1])
    assert holm(np.array([])).tolist() == []


def test_holm_is_statsmodels():
    p = np.random.default_rng(0).uniform(0, 0.2, 30)
    p[3] = p[4]
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])


def test_holm_does_not_count_what_was_not_tested():
    found = holm(np.array([0.02, np.nan, 0.03]))
    assert found[[0, 2]] == pytest.approx([0.04, 0.04])
    assert np.isnan(found[1])
    assert np.isnan(holm(np.array([np.nan]))).all()


def test_bootstrap_is_scipys_own_on_values():
    values = np.random.default_rng(3).exponential(2, (30, 2))
    low, high = bootstrap_means(values)
    for column in range(2):
        theirs = stats.bootstrap((values[:, column],), np.mean, n_resamples=9999, method="BCa",
                                 rng=np.random.default_rng(0)).confidence_interval  # fmt: skip
        # scipy draws the same numbers in the same order
        assert (low[column], high[column]) == pytest.approx((theirs.low, theirs.high), rel=1e-6)


def test_bootstrap_covers_the_mean_as_often_as_it_says():
    columns = np.random.default_rng(5).exponential(1, (60, 2000))
    low, high = bootstrap_means(columns)
    # BCa on 60 skewed values covers a little less than 95 %
    assert 0.915 < ((low <= 1) & (high >= 1)).mean() < 0.965


def test_bootstrap_of_a_column_is_the_same_in_any_company():
    values = np.random.default_rng(1).normal(size=(40, 5))
    low, high = bootstrap_means(values)
    alone = bootstrap_means(values[:, 2:3])
    assert (alone[0][0], alone[1][0]) == (low[2], high[2])
    again = bootstrap_means(values)
    assert (again[0] == low).all()
    assert (again[1] == high).all()


def test_bootstrap_where_there_is_little_to_draw_from():
    assert np.isnan(bootstrap_means(np.array([[3.0]]))).all()
    assert np.isnan(bootstrap_means(np.empty((0, 2)))).all()
    low, high = bootstrap_means(np.array([[1.0, 2.0, np.nan], [1.0, 4.0, 1.0]]))
    assert (low[0], high[0]) == (1, 1)
    assert (low[1], high[1]) == (2, 4)
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize(("ours", "n", "theirs", "m"), [(17, 19, 400, 500), (0, 19, 0, 500), (80, 100, 442, 500)])
def test_difference_interval_is_newcombes_for_proportions(ours, n, theirs, m):
    wanted = confint_proportions_2indep(ours, n, theirs, m, method="newcomb")
    found = difference_interval((100 * ours / n, *wilson(ours, n)), (100 * theirs / m, *wilson(theirs, m)))
    assert found == pytest.approx([100 * float(end) for end in wanted], abs=1e-8)


def test_difference_interval_of_symmetric_ones_adds_their_squares():
    assert difference_interval((10, 7, 13), (6, 2, 10)) == pytest.approx((-1, 9))
    assert difference_interval((10, 9, 14), (6, 3, 6)) == pytest.approx((3, 9))
