"""The part of a report that says how each metric ranks the methods, which metrics agree, and which tell nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from rapbench.core.spreadsheet import csv_text
from rapbench.report.canvas import figure_files
from rapbench.report.image_values import ImageValues, ranked_values
from rapbench.report.informative import INFORMATIVE, RANDOM, finding_text, informative
from rapbench.report.intervals import stacked
from rapbench.report.metric_tables import MOST, metric_title
from rapbench.report.part import Head, Part
from rapbench.report.ranking import ranking
from rapbench.report.table_text import Block, latex_blocks, markdown_blocks, terminal_blocks
from rapbench.report.verdict import names_of
from rapbench.results.display import MISSING, NAMES, ordered
from rapbench.results.metric_agreement import ALL, FEWEST, METRIC, OTHERS, concordance, correlations
from rapbench.results.run import Run

EXPLAINED = (
    "Cells: the rank of a method by its mean over images and over the steps above 0 that all methods have, 1 is the "
    "best [95 % interval, by the bootstrap over images, drawn together for all methods and metrics]. A protocol's "
    "summary stands for its curves."
)
W = (
    "Kendall's W says how far the metrics agree (1: completely, 0: not at all); its p assumes independent metrics, and "
    "those of one protocol are not."
)
BEST = (
    "Does a metric tell the best method, controls aside, from {random}? The test is that of the verdict; p is "
    "corrected for the choice of the best method and, by Holm, over the metrics."
)


@dataclass(frozen=True)
class Ranking:
    """How the metrics of a run rank its methods.

    Parameters
    ----------
    values : list of ImageValues
        Of each metric, in the order in which metrics are numbered.
    ranks, concordance, correlations, informative : DataFrame
        Of the functions of these names; `ranks` of `ranking`.
    controls : collection of str
    """

    values: list[ImageValues]
    ranks: pd.DataFrame
    concordance: pd.DataFrame
    correlations: pd.DataFrame
    informative: pd.DataFrame
    controls: Collection[str]

    @classmethod
    def of(cls, run: Run, *, paired: bool = True) -> "Ranking":
        """Rank a run's methods. paired: whether all have the same images; else no interval and no test is made."""
        values = ranked_values(run)
        ranked = ranking(run, values, paired=paired)
        controls = [name for name, method in run.methods.items() if method.control]
        return cls(values, ranked, concordance(ranked, controls), correlations(ranked, controls),
                   informative(values if paired else [], ranked, controls), controls)  # fmt: skip

    @property
    def shown(self) -> bool:
        """Whether there is something to compare: two metrics, and three methods."""
        return len(self.values) >= 2 and len(self.methods) >= FEWEST

    @cached_property
    def methods(self) -> list[str]:
        """All methods, in the order of tables."""
        return ordered("method", self.ranks["method"])

    @cached_property
    def titles(self) -> list[str]:
        """What each metric is called."""
        return [metric_title(one.protocol, one.variant, one.metric) for one in self.values]

    def of_metric(self, number: int, table: pd.DataFrame) -> pd.DataFrame:
        """Return a metric's rows of one of the tables."""
        one = self.values[number]
        return table[(table[METRIC] == [one.protocol, one.variant, one.metric.name]).all(axis=1)]

    @cached_property
    def agreement(self) -> list[str]:
        """Sentences: how far the metrics agree, and over which methods."""
        return _agreement(self)

    @cached_property
    def findings(self) -> list[str]:
        """A sentence on each metric that does not tell the best method from a random ranking."""
        return _findings(self)


def ranking_part(run: Run, head: Head) -> Part | None:
    """Return the ranks of all methods by all metrics; None for fewer than two metrics or three methods."""
    found = Ranking.of(run)
    if not found.shown:
        return None
    blocks = ranking_blocks(found)
    files: dict[str, str | bytes] = {
        "ranks.csv": csv_text(found.ranks),
        "ranks.md": "\n\n".join([*head.markdown, *markdown_blocks(blocks)]) + "\n",
        "ranks.tex": latex_blocks(blocks, head.header, head.caption, stacked),
    }
    files |= agreement_tables([found]) | ranking_figures(found, head.title)
    return Part(files, terminal_blocks(blocks), {"ranking": found})


def agreement_tables(rankings: Sequence[Ranking]) -> dict[str, str | bytes]:
    """Return the CSV of what is said of the metrics of some models; none of what is empty."""
    names = {"metric_agreement.csv": "correlations", "concordance.csv": "concordance", "informative.csv": "informative"}
    found = {file: [getattr(one, name) for one in rankings if len(getattr(one, name))] for file, name in names.items()}
    return {file: csv_text(pd.concat(tables, ignore_index=True)) for file, tables in found.items() if tables}


def ranking_figures(found: Ranking, title: str) -> dict[str, bytes]:
    """Return the files of the figures of the ranks and of the metrics' agreement."""
    from rapbench.report.ranking_plots import agreement_heatmap, ranks_figure

    drawn = {"ranks": ranks_figure, "metric_agreement": agreement_heatmap}
    return {file: data for stem, draw in drawn.items() for file, data in figure_files(draw(found, title), stem).items()}


def ranking_blocks(found: Ranking) -> list[Block]:
    """Lay the ranks and the metrics out as tables."""
    return [*rank_blocks(found), metric_block(found)]


def rank_blocks(found: Ranking) -> list[Block]:
    """Lay the ranks out, methods by metrics; some metrics a table. They are numbered as in `metric_block`."""
    blocks = []
    parts = np.array_split(np.arange(len(found.values)), -(-len(found.values) // MOST))
    for part in parts:
        cells = {(row["method"], number): rank_text(row) for number in part
                 for _, row in found.of_metric(number, found.ranks).iterrows()}  # fmt: skip
        rows = [(method, [cells.get((method, number), MISSING) for number in part]) for method in found.methods]
        of = f", metrics {part[0] + 1} to {part[-1] + 1}" if len(parts) > 1 else ""
        blocks.append(Block(f"Ranks{of}", EXPLAINED, [str(number + 1) for number in part], rows, [], "metric"))
    return blocks


def metric_block(found: Ranking) -> Block:
    """Name the metrics by number, each with its best method and whether that is told from a random ranking."""
    rows = []
    for number, (one, title) in enumerate(zip(found.values, found.titles, strict=True)):
        ranked = found.of_metric(number, found.ranks)
        tested = found.of_metric(number, found.informative)
        first = names_of([row["method"] for _, row in ranked.iterrows() if row["rank"] == ranked["rank"].min()])
        said = [tested["finding"].iloc[0], f"{tested['p_holm'].iloc[0]:.2g}"] if len(tested) else [MISSING, MISSING]
        n = ranked["n"]
        images = f"{n.min()}" if n.min() == n.max() else f"{n.min()} to {n.max()}"
        rows.append((f"{number + 1} {title}", [one.better, images, first, *said]))
    random = NAMES.get(RANDOM, RANDOM)
    heads = ["better", "images", "first", f"best and {random}", "p (Holm)"]
    caption = BEST.format(random=random) if len(found.informative) else "What the numbers of the metrics stand for."
    return Block("Metrics", caption, heads, rows, [*found.agreement, *found.findings], "metric")


def rank_text(row: Mapping[str, float] | pd.Series) -> str:
    """Return a rank with its interval."""
    rank = f"{row['rank']:g}"
    return rank if pd.isna(row["low"]) else f"{rank} [{row['low']:g}, {row['high']:g}]"


def _agreement(found: Ranking) -> list[str]:
    if found.concordance.empty:
        return [f"How far the metrics agree is not known: fewer than {FEWEST} methods are ranked by all of them."]
    count = found.ranks.groupby("method", sort=False).size()
    whole = [name for name in found.methods if count[name] == len(found.values)]
    lacking, controls = ([name for name in among if name in some] for among, some in (
        (found.methods, set(found.methods) - set(whole)), (whole, found.controls)))  # fmt: skip
    over = {ALL: f"over the methods that each ranks ({names_of(whole)})",
            OTHERS: f"without the controls ({names_of(controls)})"}  # fmt: skip
    said = [f"{_w(row)} {over[row['over']]}" for _, row in found.concordance.iterrows()]
    sentences = [f"{len(found.values)} metrics: {'; '.join(said)}. {W}"]
    if lacking:
        sentences.append(f"Not in W, as some metrics have no value of them: {names_of(lacking)}.")
    return sentences


def _w(row: pd.Series) -> str:
    if pd.isna(row["w"]):
        return "W is not defined, as all are tied"
    return f"W = {row['w']:.2f}, p = {row['p']:.2g}"


def _findings(found: Ranking) -> list[str]:
    if found.informative.empty:
        random = NAMES.get(RANDOM, RANDOM)
        return [f"Which metrics are uninformative is not known: that needs {random} and, on its images, a method that "
                "is no control."]  # fmt: skip
    sentences = []
    for number, title in enumerate(found.titles):
        for _, row in found.of_metric(number, found.informative).iterrows():
            if row["finding"] != INFORMATIVE:
                sentences.append(f"{number + 1} {title}: {finding_text(row)}.")
    return sentences
