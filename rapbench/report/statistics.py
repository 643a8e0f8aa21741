"""Intervals and paired tests for per-image results. Every interval is of 95 %.

scipy.stats and statsmodels are imported where they compute: the names of metrics and tables are asked for before.
"""

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALPHA = 0.05
RESAMPLES = 9999
SEED = 0
EXACT = 50  # differences, up to which Wilcoxon's distribution is computed, not approximated
DIGITS = 10  # sums differ in their last bits from one machine to another; a report's digits may not

Array = NDArray[np.float64]


def wilson(correct: int, n: int) -> tuple[float, float]:
    """Return Wilson's interval of an accuracy [wilson1927probable].

    Parameters
    ----------
    correct : int
        Number of images that are classified correctly.
    n : int
        Number of images.

    Returns
    -------
    tuple of float
        Lower and upper end, in per cent.
    """
    from statsmodels.stats.proportion import proportion_confint

    low, high = proportion_confint(correct, n, ALPHA, method="wilson")
    return round(100 * float(low), DIGITS), round(100 * float(high), DIGITS)


def bootstrap_means(values: Array) -> tuple[Array, Array]:
    """Return the BCa bootstrap interval of each column's mean over images [efron1987better].

    Parameters
    ----------
    values : array, (images, columns)
        Images are drawn with replacement, from a fixed seed. All columns use the same draws.

    Returns
    -------
    tuple of array, (columns,)
        Lower and upper ends. If all images have the same value (to DIGITS), both ends are that value. NaN for a single
        image, and for a column with a value that is not finite.
    """
    low, high = np.full(values.shape[1], np.nan), np.full(values.shape[1], np.nan)
    if len(values) < 2:
        return low, high
    finite, first = np.isfinite(values).all(0), values[0]
    with np.errstate(invalid="ignore"):  # infinity less itself
        same = finite & (np.round(values - first, DIGITS) == 0).all(0)
    low[same] = high[same] = first[same]
    rest = finite & ~same
    if not rest.any():
        return low, high
    data = np.ascontiguousarray(values[:, rest].T)

    def means(counts: Array) -> Array:
        """Return (columns, draws) means of the images; a matrix product by how often each is drawn."""
        # Rounded, or equal means would compare as the last bits of their sums do.
        found: Array = np.round(data @ counts.T / counts.sum(1), DIGITS)
        return found

    interval = _bootstrap(len(values), means, "BCa").confidence_interval
    low[rest], high[rest] = np.round(interval.low, DIGITS), np.round(interval.high, DIGITS)
    return low, high


def bootstrap_quantiles(images: int, statistic: Callable[[Array], Array]) -> tuple[Array, Array]:
    """Return the percentile bootstrap interval of a statistic of all images [efron1979bootstrap].

    For statistics that take few values, such as ranks, of which the ends of BCa's interval are not defined.

    Parameters
    ----------
    images : int
        At least 2. They are drawn as for `bootstrap_means`.
    statistic : callable
        Takes how often each image is drawn, (draws, images), and returns (columns, draws).

    Returns
    -------
    tuple of array, (columns,)
        Lower and upper ends, each a value that occurred; NaN for a column in which one is NaN.
    """
    from scipy import stats

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)  # NaN, of which there is no interval
        drawn = _bootstrap(images, statistic, "percentile").bootstrap_distribution
    found = np.sort(drawn, axis=1)
    skipped = math.floor(found.shape[1] * ALPHA / 2)
    low, high = found[:, skipped].copy(), found[:, -1 - skipped].copy()
    low[np.isnan(found[:, -1])] = high[np.isnan(found[:, -1])] = np.nan  # sorted last
    return low, high


def _bootstrap(images: int, statistic: Callable[[Array], Array], method: str) -> Any:
    """Return scipy's bootstrap over images, drawn from a fixed seed; statistic: as `bootstrap_quantiles` takes it."""
    from scipy import stats

    def of_drawn(drawn: NDArray[np.int64], axis: int) -> Array:
        rows = drawn.reshape(-1, drawn.shape[-1])
        places = rows + np.arange(len(rows))[:, None] * images
        counts = np.bincount(places.ravel(), minlength=len(rows) * images).reshape(len(rows), -1)
        found = statistic(counts.astype(float))
        return found[:, 0] if drawn.ndim == 1 else found

    batch = max(1, 5_000_000 // images)  # numbers drawn at a time
    return stats.bootstrap(
        (np.arange(images),), of_drawn, n_resamples=RESAMPLES, batch=batch, vectorized=True, axis=-1,
        confidence_level=1 - ALPHA, method=method, rng=np.random.default_rng(SEED),
    )  # fmt: skip


def difference_interval(ours: tuple[float, float, float], theirs: tuple[float, float, float]) -> tuple[float, float]:
    """Return the interval of the difference of two independent estimates, ours - theirs.

    The method of variance estimates recovery [zou2008construction]. For proportions with Wilson's intervals it is
    Newcombe's hybrid score interval [newcombe1998interval].

    Parameters
    ----------
    ours, theirs : tuple of float
        Value, lower end and upper end of each estimate.

    Returns
    -------
    tuple of float
        Lower and upper end of the difference.
    """
    (value, low, high), (other, other_low, other_high) = ours, theirs
    difference = value - other
    below = np.hypot(value - low, other_high - other)
    above = np.hypot(high - value, other - other_low)
    return round(float(difference - below), DIGITS), round(float(difference + above), DIGITS)


def mcnemar(only_first: NDArray[np.int64], only_second: NDArray[np.int64]) -> Array:
    """Return the exact two-sided p of McNemar's test [mcnemar1947note].

    Parameters
    ----------
    only_first, only_second : array of int
        Number of images that only the first, and only the second method classifies correctly.

    Returns
    -------
    array
        p values, in the shape of the arguments.
    """
    from scipy import stats

    fewer, both = np.minimum(only_first, only_second), only_first + only_second
    p: Array = np.minimum(1.0, 2 * stats.binom.cdf(fewer, both, 0.5))
    return p


def wilcoxon(differences: Array) -> tuple[float, int]:
    """Return the two-sided p of Wilcoxon's signed-rank test [wilcoxon1945individual], and the direction of the ranks.

    Zero differences are dropped, as in the source. For up to 50 differences the test is exact, with or without ties.

    Parameters
    ----------
    differences : array, (images,)

    Returns
    -------
    p : float
        1 if all differences are zero, NaN if one is NaN.
    direction : int
        1 if the positive differences have the larger sum of ranks, -1 if the negative ones do, 0 if they are equal.
    """
    from scipy import stats

    if np.isnan(differences).any():
        return float("nan"), 0
    rest = differences[differences != 0]
    # Twice a rank is an integer, tied or not.
    ranks = np.rint(2 * stats.rankdata(np.abs(rest))).astype(int)
    positive = int(ranks[rest > 0].sum())
    lean = int(np.sign(2 * positive - ranks.sum()))
    if len(rest) > EXACT:
        return float(stats.wilcoxon(rest, method="asymptotic").pvalue), lean
    # scipy's own exact distribution knows no ties.
    chances = np.ones(1)  # of each sum of the ranks of positive differences
    for rank in ranks:
        chances = (np.append(chances, np.zeros(rank)) + np.append(np.zeros(rank), chances)) / 2
    return float(min(1.0, 2 * chances[: positive + 1].sum(), 2 * chances[positive:].sum())), lean


def holm(p: Array) -> Array:
    """Return the p values of one family after Holm's correction [holm1979simple].

    The result is that of statsmodels' multipletests, which collects garbage at every call: 72 ms for a family of ten.

    Parameters
    ----------
    p : array, (tests,)
        NaN does not belong to the family.

    Returns
    -------
    array, (tests,)
        Corrected p values; NaN stays NaN.
    """
    order = np.argsort(p, kind="stable")  # NaN last
    family = np.count_nonzero(~np.isnan(p))
    weights = np.maximum(family - np.arange(len(p)), 1)
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * weights), 1)
    return corrected


def t_interval(values: Array) -> tuple[float, float]:
    """Return Student's t interval of a mean [student1908probable].

    Parameters
    ----------
    values : array, (n,)
        Taken as independent. NaN for fewer than two, and where all are the same: there is no spread to go by.

    Returns
    -------
    tuple of float
        Lower and upper end.
    """
    from scipy import stats

    if len(values) < 2 or (np.round(values - values[0], DIGITS) == 0).all():
        return float("nan"), float("nan")
    mean, error = values.mean(), values.std(ddof=1) / np.sqrt(len(values))
    reach = float(stats.t.ppf(1 - ALPHA / 2, len(values) - 1)) * error
    return round(float(mean - reach), DIGITS), round(float(mean + reach), DIGITS)
