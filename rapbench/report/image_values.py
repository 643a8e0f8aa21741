"""Every image's values by the metrics that rank methods, as arrays."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from rapbench.protocols.base.metric import Better, Metric
from rapbench.report.per_image import refuse_twice
from rapbench.results.display import ordered
from rapbench.results.ranks import counted
from rapbench.results.run import Run

CELL = ["variant", "method", "k"]


@dataclass(frozen=True, eq=False)
class ImageValues:
    """What a metric measures in a variant of a protocol.

    Parameters
    ----------
    protocol, variant : str
    metric : Metric
    images, methods, ks : sequence of str
    values : array, (images, methods, ks)
        Of a share in per cent. NaN where there is none.
    """

    protocol: str
    variant: str
    metric: Metric
    images: NDArray[np.object_]
    methods: list[str]
    ks: list[str]
    values: NDArray[np.float64]

    @property
    def better(self) -> Better:
        """Which value is better."""
        return self.metric.better[self.variant]

    @property
    def means(self) -> pd.DataFrame:
        """Each method's mean at each step over the images that have a value, as `results.ranks` takes them, and n."""
        # Sorted, so that the order of the images cannot change the last digit; NaN is last.
        values = np.sort(self.values, axis=0)
        there = ~np.isnan(values)
        n = there.sum(0)
        with np.errstate(invalid="ignore"):
            means = np.where(there, values, 0).sum(0) / n
        methods, ks = (axis.ravel() for axis in np.meshgrid(self.methods, self.ks, indexing="ij"))
        return pd.DataFrame({"protocol": self.protocol, "variant": self.variant, "metric": self.metric.name,
                             "method": methods, "k": ks, "value": means.ravel(), "n": n.ravel(),
                             "better": self.better}, dtype=object).astype({"value": float, "n": int})  # fmt: skip


def ranked_values(run: Run) -> list[ImageValues]:
    """Return what ranks the methods of a run: of each metric the methods and the steps that `counted` says.

    Raises
    ------
    RapbenchError
        Where an image is in a cell twice.
    """
    found = list(_all_values(run))
    if not found:
        return []
    table = pd.concat([one.means for one in found], keys=range(len(found)), names=["place", None])
    left = counted(table.reset_index("place").assign(model=run.model, data=run.data))
    chosen = []
    for place, rows in left.groupby("place"):
        one, known = found[int(str(place))], set(rows["method"])
        methods = [name for name in one.methods if name in known]
        steps = set(rows["k"])
        ks = [k for k in one.ks if k in steps]
        values = one.values[:, [one.methods.index(name) for name in methods]][:, :, [one.ks.index(k) for k in ks]]
        chosen.append(replace(one, methods=methods, ks=ks, values=values))
    return chosen


def _all_values(run: Run) -> Iterator[ImageValues]:
    for label, info in run.protocols.items():
        for table in (each[label] for each in (run.tables, run.numbers) if label in each):
            for variant in table["variant"].unique():
                metrics = [metric for metric in info.ranked(variant) if metric.name in table]
                if metrics:
                    yield from _of_variant(run, label, str(variant), table[table["variant"] == variant], metrics)


def _of_variant(
    run: Run, label: str, variant: str, table: pd.DataFrame, metrics: list[Metric]
) -> Iterator[ImageValues]:
    rows, images = pd.factorize(table["input"].to_numpy(), sort=True)
    there = set(table["method"].unique())
    methods = [name for name in ordered("method", run.methods) if name in there]
    ks = ordered("k", table["k"].unique())
    columns = [pd.Categorical(table[key], names).codes for key, names in (("method", methods), ("k", ks))]
    shape = (len(images), len(methods), len(ks))
    places = np.ravel_multi_index((rows, *(codes.astype(int) for codes in columns)), shape)
    if np.bincount(places).max() > 1:
        refuse_twice(table.rename(columns={"input": "image"}), CELL)
    for metric in metrics:
        values = np.full(shape, np.nan)
        values.ravel()[places] = table[metric.name].to_numpy(np.float64) * (100 if metric.kind == "share" else 1)
        yield ImageValues(label, variant, metric, images, methods, ks, values)
