"""What an evaluation returns: the results of one run or several, to be looked at, compared and written."""

from collections.abc import Callable, Collection, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.core.extras import check_installed
from rapbench.results.display import sized, titled
from rapbench.results.merged import Place, called, joined, places
from rapbench.results.metric_agreement import CONCORDANCE, CORRELATIONS, concordance, correlations
from rapbench.results.run import Run
from rapbench.results.told_apart import told_apart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from rapbench.report.means import Measured

TABLE = ["model", "data", "method", "options", "protocol", "variant", "metric", "k", "value", "n", "low", "high",
         "better"]  # fmt: skip


class Results:
    """Results of any number of runs, as `evaluate` and `load_results` return them.

    Parameters
    ----------
    runs : sequence of Run

    Examples
    --------
    >>> results = rapbench.evaluate(network, images, labels, methods=["rap", "random"])
    >>> results.frame  # a row per number
    >>> results.table()  # means with intervals
    >>> results.plot().savefig("removal.pdf")
    >>> results.report("out")
    """

    def __init__(self, runs: Sequence[Run]):
        if not runs:
            raise RapbenchError("results need one run at least")
        self.runs = tuple(runs)

    @property
    def frame(self) -> pd.DataFrame:
        """One row per number: model, data, input, label, method, options, protocol, variant, k, metric and value.

        `options` names the options that are not the default. `variant` is the sign or the order. `k` is a number of
        pixels, a share such as `5%` or 0.25, or `all`, and empty for a metric without steps. `value` is 0 or 1 for a
        share. If several runs have the same method, `options` also names the settings in which these runs differ, such
        as the seed, and `protocol` the options of a protocol in which they differ.
        """
        frames = [run.frame for run in told_apart(self.runs)]
        if len(frames) == 1:
            return frames[0].copy()
        texts = [name for name in frames[0] if name not in ("label", "value")]
        whole = pd.concat([frame.astype(dict.fromkeys(texts, object)) for frame in frames], ignore_index=True)
        return whole.drop_duplicates(ignore_index=True).astype(dict.fromkeys(texts, "category"))

    def table(self) -> pd.DataFrame:
        """Return means over the inputs with 95 % intervals.

        Returns
        -------
        DataFrame
            model, data, method, options, protocol, variant, metric, k, value (a share is in per cent), n (inputs with a
            value), low, high, and better (which value is better: `higher`, `lower`, or empty).
        """
        return self._named_table.drop(columns="name")

    @cached_property
    def _named_table(self) -> pd.DataFrame:
        """`table` with what each row is called."""
        parts = []
        for place, averaged in zip(self.places, self._means, strict=True):
            for label, table in averaged.items():
                better = {metric.name: metric.better for metric in place.run.protocols[label].shown}
                table = table.assign(better=[better[metric].get(variant, "") for metric, variant in zip(
                    table["metric"], table["variant"], strict=True)])  # fmt: skip
                known = table["method"].map(place.methods)
                parts.append(table.assign(name=table["method"], method=known.str[0], options=known.str[1],
                                          model=place.run.model, data=place.run.data))  # fmt: skip
        columns = [*TABLE, "name"]
        return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)

    @cached_property
    def _means(self) -> "list[dict[str, pd.DataFrame]]":
        """The means of each place by protocol."""
        from rapbench.report.means import means

        with sized(self.pixels):
            found = [{label: means(place.run, label) for label in place.run.protocols if label in place.run.tables}
                     for place in self.places]  # fmt: skip
        return [{label: table for label, table in each.items() if len(table)} for each in found]

    def measured(self) -> "list[Measured]":
        """Return the means of all runs by protocol, methods named as among all of them; for figures and pages."""
        from rapbench.report.means import Measured, in_order, means

        whole = self._merged()
        parts: dict[str, list[pd.DataFrame]] = {label: [] for label in whole.tables}
        with sized(self.pixels):
            if len(self.runs) == 1:
                tables = {label: means(whole, label) for label in whole.tables}
            else:
                for names, averaged in zip(called(self.places), self._means, strict=True):
                    for label, table in averaged.items():
                        parts[label].append(table.assign(method=table["method"].map(names)))
                tables = {label: in_order(pd.concat(found, ignore_index=True), whole.protocols[label])
                          for label, found in parts.items() if found}  # fmt: skip
        return [Measured(label, whole.protocols[label], table) for label, table in tables.items() if len(table)]

    def compare(self) -> pd.DataFrame:
        """Return paired tests of all pairs of methods of a model on the same inputs, cell by cell, across runs.

        McNemar's exact test [mcnemar1947note] for shares, Wilcoxon's signed-rank test [wilcoxon1945individual] for
        other numbers, Holm-corrected [holm1979simple] over the pairs of a cell.

        Returns
        -------
        DataFrame
            One row per pair and cell, with the columns of `tests.csv`.

        Raises
        ------
        RapbenchError
            If runs of one model have different inputs, so that there are no pairs.
        """
        check_installed("report", "comparing methods")
        for place in self.places:
            if place.unpaired:
                raise RapbenchError(f"no paired tests of {place.run.model}: {place.unpaired}")
        from rapbench.report.metric_files import paired_tests

        with sized(self.pixels):
            return paired_tests(self.places)

    def verdict(self) -> pd.DataFrame:
        """Compare each method with the controls: `random`, `edge`, and others that do not use the model.

        The control may be in another run of the model on the same inputs.

        Returns
        -------
        DataFrame
            One row per method, control, variant and protocol, with the columns of `verdict.csv`.
        """
        check_installed("report", "a verdict")
        from rapbench.report.metric_files import judged

        with sized(self.pixels):
            parts = [judged(run, label).assign(model=run.model, data=run.data)
                     for place in self.places for run in place.comparable for label in run.tables]  # fmt: skip
        found = pd.concat(parts, ignore_index=True)
        return found.rename(columns={"sign": "variant", "perturbation": "protocol"})

    def ranks(self) -> pd.DataFrame:
        """Rank the methods of each model by each metric that says which value is better.

        Returns
        -------
        DataFrame
            model, data, protocol, variant, metric, method, value (the mean over images and over the steps above 0 that
            all methods of the model have; of a share in per cent), n (images), rank (1 is the best; ties share their
            mean rank), low and high (its 95 % interval over images; NaN where runs of a model have different images).
            A protocol's summary stands for its curves.
        """
        from rapbench.report.ranking import ranking

        with sized(self.pixels):
            return pd.concat([ranking(place.run, paired=not place.unpaired) for place in self.places],
                             ignore_index=True)  # fmt: skip

    def metric_agreement(self) -> pd.DataFrame:
        """Return Spearman's correlation of the ranks by each two metrics; see `results.metric_agreement.correlations`.

        Returns
        -------
        DataFrame
            A row per model and pair of metrics, with the columns of `metric_agreement.csv`.
        """
        return self._of_places(correlations, CORRELATIONS)

    def concordance(self) -> pd.DataFrame:
        """Return Kendall's W of all metrics of each model, with and without the controls.

        Returns
        -------
        DataFrame
            The columns of `concordance.csv`.
        """
        return self._of_places(concordance, CONCORDANCE)

    def _of_places(
        self, of: Callable[[pd.DataFrame, Collection[str]], pd.DataFrame], columns: list[str]
    ) -> pd.DataFrame:
        """Return what a function says of the ranks of each model and its controls."""
        ranked = self.ranks()
        parts = []
        for place in self.places:
            mine = ranked[(ranked["model"] == place.run.model) & (ranked["data"] == place.run.data)]
            parts.append(of(mine, [name for name, method in place.run.methods.items() if method.control]))
        parts = [part for part in parts if len(part)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)

    def informative(self) -> pd.DataFrame:
        """Test by each metric whether the best method of a model differs from `random`.

        Returns
        -------
        DataFrame
            A row per model and metric, with the columns of `informative.csv`; none where `random` is missing.
        """
        check_installed("report", "a verdict")
        from rapbench.report.image_values import ranked_values
        from rapbench.report.informative import informative
        from rapbench.report.ranking import ranking

        parts = []
        with sized(self.pixels):
            for place in self.places:
                for run in place.comparable:
                    values = ranked_values(run)
                    controls = [name for name, method in run.methods.items() if method.control]
                    parts.append(informative(values, ranking(run, values), controls))
        return pd.concat(parts, ignore_index=True)

    def plot(self, protocol: str | None = None) -> "Figure":
        """Draw one protocol: curves with 95 % bands, or points with intervals.

        Parameters
        ----------
        protocol : str, optional
            A protocol's label. By default the first.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        RapbenchError
            For a protocol that is not among the results.
        """
        check_installed("report", "a figure")
        from rapbench.report.metric_plots import metrics_figure

        whole = self._merged()
        known = list(whole.tables)
        protocol = known[0] if protocol is None else protocol
        if protocol not in known:
            hint = did_you_mean(protocol, known)
            raise RapbenchError(f"there are no results of protocol {protocol!r}{hint}; known: {', '.join(known)}")
        with titled(whole.titles), sized(self.pixels):
            shown = [one for one in self.measured() if one.protocol == protocol]
            return metrics_figure(shown, f"{whole.model}: {protocol}")

    def report(self, folder: str | Path) -> Path:
        """Write tables, figures and the page into a folder, and return its path.

        For several runs they are those of their comparison.
        """
        check_installed("report", "a report")
        place = Path(folder)
        if len(self.runs) > 1:
            from rapbench.report.compare import write_comparison

            write_comparison(place, self)
            return place
        from rapbench.report import write_report

        write_report(place, self.runs[0])
        return place

    def save(self, folder: str | Path) -> Path:
        """Write the report, and results, provenance and manifest for `load_results`, into a folder; return its path.

        For several runs there is a folder for each, named by number and model.
        """
        check_installed("report", "a report")
        from rapbench.report.folder import write_run

        place = Path(folder)
        if len(self.runs) > 1:
            for number, run in enumerate(self.runs):
                write_run(place / f"{number}-{run.model.replace('/', '_')}", run)
            return self.report(place)
        write_run(place, self.runs[0])
        return place

    @property
    def pixels(self) -> int:
        """How many an input has, the largest of several runs'; 0 where it is not known."""
        return max(run.pixels for run in self.runs)

    def _merged(self) -> Run:
        return self.runs[0] if len(self.runs) == 1 else joined(self.places)

    @cached_property
    def places(self) -> list[Place]:
        """The runs of each model on each data set as one."""
        return places(self.runs)

    def __repr__(self) -> str:
        """Say what the results are of."""
        parts = [f"{run.model} on {run.data}: {', '.join(run.methods)} by {', '.join(run.tables)}" for run in self.runs]
        return f"Results({'; '.join(parts)})"

    def _repr_html_(self) -> str:
        """Return the means, as a notebook shows them."""
        return self.table().to_html(max_rows=40, index=False)


def load_results(*folders: str | Path) -> Results:
    """Return the results of finished runs.

    Parameters
    ----------
    *folders : path
        Folders that runs or `Results.save` wrote, or folders that contain these.

    Returns
    -------
    Results

    Raises
    ------
    RapbenchError
        If there are no results, or if a file is not as a run writes it.

    Examples
    --------
    >>> results = rapbench.load_results("results/table1")
    """
    from rapbench.results.folder import load_run, run_folders

    runs: dict[Path, Run] = {}
    for folder in map(Path, folders):
        runs |= {place.resolve(): load_run(place) for place in run_folders(folder)}
    return Results(list(runs.values()))
