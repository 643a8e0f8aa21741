"""The rank of each method by each metric, with its interval over images."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rapbench.report.image_values import ImageValues, ranked_values
from rapbench.report.statistics import bootstrap_quantiles
from rapbench.results.ranks import PLACE, decimals, ranks
from rapbench.results.run import Run

COLUMNS = ["model", *PLACE, "method", "value", "n", "rank", "low", "high"]
Array = NDArray[np.float64]


def ranking(run: Run, values: Sequence[ImageValues] | None = None, *, paired: bool = True) -> pd.DataFrame:
    """Rank the methods of a run by each metric that says which value is better.

    Parameters
    ----------
    run : Run
    values : sequence of ImageValues, optional
        Of `ranked_values`, where they are known.
    paired : bool
        Whether all methods have the same images; where they do not, there are no intervals.

    Returns
    -------
    DataFrame
        COLUMNS. value: the mean over images and steps, of a share in per cent. n: the images of the step that has the
        fewest. rank: 1 is the best; ties share their mean rank. low, high: its 95 % interval, by the bootstrap over
        images, which are drawn together for all methods and metrics; NaN for one image, and where it is not defined.
    """
    known = ranked_values(run) if values is None else values
    if not known:
        return pd.DataFrame(columns=COLUMNS)
    table = pd.concat([one.means for one in known], ignore_index=True).assign(model=run.model, data=run.data)
    keys = ["protocol", "variant", "metric", "method"]
    ends = {(one.protocol, one.variant, one.metric.name, method): pair
            for one, pairs in zip(known, rank_intervals(known), strict=True)
            for method, pair in zip(one.methods, pairs, strict=True)}  # fmt: skip
    fewest = table.groupby(keys, sort=False)["n"].min()
    found = ranks(table)
    found["n"] = [fewest[key] for key in found[keys].itertuples(index=False, name=None)]
    known_ends = [ends[key] for key in found[keys].itertuples(index=False, name=None)]
    found[["low", "high"]] = known_ends if paired else np.nan
    return found[COLUMNS]


def rank_intervals(values: Sequence[ImageValues]) -> list[Array]:
    """Return the (methods, 2) ends of the ranks' intervals by each metric.

    Metrics that have values of the same images see the same draws. An interval is not defined (NaN) where a draw of
    images leaves a method without a value, and where a value is infinite.
    """
    found = [np.full((len(one.methods), 2), np.nan) for one in values]
    together: dict[tuple[str, ...], list[int]] = {}
    for place, one in enumerate(values):
        images = tuple(one.images[~np.isnan(one.values).all((1, 2))])
        if len(images) > 1 and not np.isinf(one.values).any():
            together.setdefault(images, []).append(place)
    for images, places in together.items():
        resampled = [_Resampled(values[place]) for place in places]
        low, high = bootstrap_quantiles(len(images), partial(_stacked, resampled))
        splits = np.cumsum([len(values[place].methods) for place in places])[:-1]
        for place, *ends in zip(places, np.split(low, splits), np.split(high, splits), strict=True):
            found[place] = np.stack(ends, axis=1)
    return found


def _stacked(metrics: "Sequence[_Resampled]", counts: Array) -> Array:
    """Return (methods of all metrics, draws) ranks."""
    return np.concatenate([one.ranks(counts) for one in metrics])


class _Resampled:
    """The ranks by a metric of images that are drawn again."""

    def __init__(self, one: ImageValues):
        values = one.values[~np.isnan(one.values).all((1, 2))]
        there = ~np.isnan(values)
        if (there == there[:, :, :1]).all():  # the mean over steps is each image's own
            values, there = values.mean(2, keepdims=True), there[:, :, :1]
        self.shape = values.shape[1:]
        self.sign = -1 if one.better == "higher" else 1
        self.digits = decimals(one.means.groupby("method")["value"].mean())
        self.values = np.where(there, values, 0).reshape(len(values), -1)
        self.there = None if there.all() else there.reshape(len(values), -1).astype(float)

    def ranks(self, counts: Array) -> Array:
        """Return (methods, draws) ranks; counts: how often each image is drawn, (draws, images)."""
        n = counts.sum(1, keepdims=True) if self.there is None else counts @ self.there
        with np.errstate(invalid="ignore"):
            means = (counts @ self.values / n).reshape(len(counts), *self.shape).mean(2)
        return ranks_of(self.sign * np.round(means, self.digits).T)


def ranks_of(values: Array) -> Array:
    """Return the ranks of (methods, draws) values within each draw, the lowest first; NaN where one is NaN."""
    below, equal = (np.stack([compare(values, one).sum(0) for one in values]) for compare in (np.less, np.equal))
    found = below + (equal + 1) / 2
    found[:, np.isnan(values).any(0)] = np.nan
    return found
