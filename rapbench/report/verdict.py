"""Each method against the controls: whether it finds pixels any better than chance, or than the image's edges.

`verdicts` decides; the CSV, the Markdown, the terminal and the page only lay out what it returns.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from tabulate import tabulate

from rapbench.protocols.base.metric import Better
from rapbench.report.per_image import by_image
from rapbench.report.statistics import ALPHA, EXACT, holm, wilcoxon
from rapbench.report.table_text import markdown_name
from rapbench.results.display import NAMES, ordered
from rapbench.results.ranks import decimals

CONTROLS = ("random", "edge")
# Table I's: lower without the positive pixels, higher without the negative ones.
SIGNED: dict[str, Better] = {"positive": "lower", "negative": "higher"}
BETTER, WORSE, NONE, MIXED = "better", "worse", "no difference shown", "mixed"
SYMBOLS = {BETTER: "✓", WORSE: "✗", NONE: "≈", MIXED: "±"}
KEYS = ["sign", "perturbation", "control", "method"]
WHAT = ("gain", "p", "p_holm")  # of each metric
LEGEND = (
    "Wilcoxon's signed-rank test compares each image's mean over the K between 0 and 'all' ('all' itself if a run has "
    "no other K), Holm-corrected over the methods and both metrics of a column. ✓ better, ✗ worse (p < 0.05; if only "
    "one metric shows it, it is named); ≈ no difference shown; ± mixed: the metrics contradict each other, or the "
    "ranks of a test and its mean do. Without positive pixels lower is better, without negative pixels higher. For "
    "another protocol its own table says which is better."
)
FEW = 100  # images, below which it is said that they are few


class Judged(NamedTuple):
    """A metric by which methods are compared. value: its column. better: by sign. scale: of a gain."""

    value: str
    better: Mapping[str, Better]
    scale: float = 1


METRICS = {"accuracy": Judged("correct", SIGNED, 100), "score": Judged("logit", SIGNED)}  # Table I's


class Paired(NamedTuple):
    """A paired test of a method and a control.

    gain: by how much the method is better. p: two-sided, Wilcoxon. lean: 1 where the ranks are for the method, -1 where
    they are for the control.
    """

    gain: float
    p: float
    lean: int

    def outcome(self, p: float) -> str:
        """Return which of SYMBOLS it is, by its ranks and its mean. p: after correction."""
        return _outcome({self.lean, int(np.sign(self.gain))} if p < ALPHA else set())


class Finding(NamedTuple):
    """What one column of the verdict says. methods: each outcome that occurs, with its methods."""

    sign: str
    perturbation: str
    control: str
    methods: dict[str, list[str]]

    @property
    def heading(self) -> str:
        """What is compared, in words."""
        return f"{doing(self.sign, self.perturbation)}, against {NAMES.get(self.control, self.control)}"


def verdicts(
    images: pd.DataFrame, controls: Collection[str] = CONTROLS, metrics: Mapping[str, Judged] = METRICS
) -> pd.DataFrame:
    """Compare each method with each control on the same images, over all K at once.

    An image's value is its mean over the K that are numbers above 0 (`all` is another number of pixels for each
    method; it is taken only where there is nothing else): how often it is still right, and its label's logit.

    Parameters
    ----------
    images : DataFrame
        Per-image results as `table1.table1` takes them.
    controls : labels
        The methods that look at no model. They are what others are compared with, and are not compared themselves.
    metrics : mapping of str to Judged
        What is compared; a sign for which none says what is better has no verdict.

    Returns
    -------
    DataFrame
        KEYS, verdict, n, ks, metrics (those compared), and WHAT of each metric, in the order of Table I. gain: by how
        much the method is better than the control, of accuracy in points. p: two-sided, Wilcoxon; p_holm: corrected
        over the methods and metrics of one sign, perturbation and control. verdict: better or worse, if one metric says
        so (p_holm < 0.05) and no other contradicts; mixed if one does; else no difference shown.
    """
    present = [name for name in ordered("method", images["method"]) if name in controls]
    known = sorted(present, key=lambda name: CONTROLS.index(name) if name in CONTROLS else len(CONTROLS))
    rows: list[dict[str, Any]] = []
    for (sign, perturbation), part in images.groupby(["sign", "perturbation"], sort=False):
        judged = {name: metric for name, metric in metrics.items() if sign in metric.better}
        if not judged:
            continue
        there = set(part["method"])
        for control in (control for control in known if control in there):
            family = []
            for method in ordered("method", part["method"]):
                row = {} if method in known else _against(part, control, method, str(sign), judged)
                family += [row] if row else []
            corrected = iter(holm(np.array([row[f"{metric}_p"] for row in family for metric in judged])))
            for row in family:
                row |= {"sign": sign, "perturbation": perturbation, "control": control}
                row |= {f"{metric}_p_holm": next(corrected) for metric in judged}
                row |= {"verdict": _verdict(row, judged), "metrics": " ".join(judged)}
            rows += family
    table = pd.DataFrame(rows, columns=[*KEYS, "verdict", "n", "ks", "metrics", *(f"{name}_{what}" for name in metrics
                                                                        for what in WHAT)])  # fmt: skip
    places = {key: {name: rank for rank, name in enumerate(ordered(key, table[key]))} for key in KEYS}
    places["control"] = {name: rank for rank, name in enumerate(known)}
    return table.sort_values(KEYS, key=lambda column: column.map(places[str(column.name)]), ignore_index=True)


def findings(table: pd.DataFrame) -> list[Finding]:
    """Return what each column of a verdict says, in order; every method of the column is in one of its outcomes."""
    found = []
    columns = list(dict.fromkeys(table[["sign", "perturbation", "control"]].itertuples(index=False, name=None)))
    for column in columns:
        part = table[(table[["sign", "perturbation", "control"]] == list(column)).all(axis=1)]
        methods = {outcome: part[part["verdict"] == outcome]["method"].tolist() for outcome in SYMBOLS}
        sign, perturbation, control = column
        found.append(Finding(sign, perturbation, control, {name: some for name, some in methods.items() if some}))
    return found


def words(row: pd.Series) -> str:
    """Return a verdict in words; the metric is named where it alone says so."""
    shown = [metric for metric in metrics_of(row.index) if row[f"{metric}_p_holm"] < ALPHA]
    only = f" ({shown[0]})" if len(shown) == 1 else ""
    return f"{row['verdict']}{only}"


def metrics_of(columns: Iterable[Any]) -> list[str]:
    """Return the metrics that a verdict's columns are of."""
    return [str(name).removesuffix("_p_holm") for name in columns if str(name).endswith("_p_holm")]


def doing(sign: str, perturbation: str) -> str:
    """Return what is done to which pixels, in words."""
    if sign not in SIGNED:
        return f"{perturbation}, {sign}" if sign else perturbation
    return f"{perturbation} of {sign} pixels"


def caution(table: pd.DataFrame) -> str:
    """Return what few images mean for `no difference shown`; empty where that is not said, or they are not few."""
    undecided = table[table["verdict"] == NONE]
    if undecided.empty or undecided["n"].min() >= FEW:
        return ""
    n, most = undecided["n"].min(), undecided["n"].max()
    of = f"{n}" if n == most else f"{n} to {most}"
    few = f"{of} image{' is' if most == 1 else 's are'} few: "
    if _blind(table):
        return few + "too few to show any difference in this table, however large."
    return few + f"'{NONE}' may only mean that they are too few to show one."


def no_verdict(images: pd.DataFrame, controls: Collection[str] = CONTROLS) -> str:
    """Say why there is no verdict; `verdicts` of the same images is empty."""
    methods = set(images["method"])
    names = [NAMES.get(name, name) for name in ordered("method", methods & set(controls))]
    if not names:
        return f"No control ({', '.join(NAMES.get(name, name) for name in CONTROLS)}) is among the methods: no verdict."
    if methods <= set(controls):
        return f"Only {' and '.join(names)} ran, and a control is not compared with itself: no verdict."
    return f"No method has images, signs and K in common with {' or '.join(names)}: no verdict."


def markdown_verdict(table: pd.DataFrame, why: str) -> str:
    """Lay the verdicts out: a row for each method, a column for each sign, perturbation and control.

    why: what to say where there are none, as `no_verdict` returns it.
    """
    if table.empty:
        return f"### Against the controls\n\n{why}"
    found = {tuple(row[key] for key in KEYS): f"{SYMBOLS[row['verdict']]} {words(row)}" for _, row in table.iterrows()}
    columns = findings(table)
    rows = [[markdown_name(method), *(found.get((*column[:3], method), "") for column in columns)]
            for method in ordered("method", table["method"])]  # fmt: skip
    shown = tabulate(rows, ["", *(column.heading for column in columns)], "pipe", disable_numparse=True)
    return "\n\n".join(text for text in ["### Against the controls", caution(table), shown, LEGEND] if text)


def terminal_verdict(table: pd.DataFrame) -> str:
    """Say for each sign, perturbation and control what each method came out as: a line each outcome."""
    if table.empty:
        return ""
    lines = []
    for column in findings(table):
        said = [f"{SYMBOLS[outcome]} {outcome}: {names_of(names)}" for outcome, names in column.methods.items()]
        lines.append("\n  ".join([column.heading, *said]))
    title = "Against the controls (paired tests of each image's mean over K, Holm-corrected)"
    return "\n".join(text for text in [title, caution(table), *lines] if text) + "\n"


def names_of(methods: Sequence[str]) -> str:
    """Return methods as the tables call them, in a sentence."""
    return ", ".join(NAMES.get(name, name) for name in methods)


def _blind(table: pd.DataFrame) -> bool:
    """Whether no test of the verdict could have been significant: on n images p is at least 2 / 2^n, before Holm."""
    families = table.groupby(["sign", "perturbation", "control"])
    tests = families[[f"{metric}_p" for metric in metrics_of(table)]].count().sum(axis=1)
    least = families["n"].max().clip(upper=EXACT).map(lambda n: 2.0 ** (1 - n))
    return bool((least * tests >= ALPHA).all())


def _against(part: pd.DataFrame, control: str, method: str, sign: str, metrics: Mapping[str, Judged]) -> dict[str, Any]:
    """Return gain and p of each metric over the K and the images that both have; {} where they share none."""
    both = part[part["method"].isin([control, method]) & (part["k"] != "0")]
    shared = both.groupby("k")["method"].nunique()
    ks = ordered("k", shared[shared == 2].index)
    ks = [k for k in ks if k != "all"] or ks
    both = both[both["k"].isin(ks)]
    there = by_image(both.assign(there=1), ["method", "k"], "there").notna().all(axis=1)
    if not ks or not there.any():
        return {}
    row: dict[str, Any] = {"method": method, "n": int(there.sum()), "ks": " ".join(ks)}
    for metric, (value, better, scale) in metrics.items():
        wide = by_image(both, ["method", "k"], value)[there]
        ours, theirs = (wide[name][ks].to_numpy() for name in (method, control))
        test = paired_test(ours, theirs, better[sign], scale)
        row |= {f"{metric}_{what}": found for what, found in test._asdict().items()}
    return row


def paired_test(ours: np.ndarray, theirs: np.ndarray, better: Better, scale: float = 1) -> Paired:
    """Test (images, steps) values of a method and of a control by each image's mean over the steps."""
    # Rounded, or equal means of different sums would not tie.
    digits = decimals([ours, theirs])
    means = [np.round(values.mean(1), digits) for values in (ours, theirs)]
    gains = (1 if better == "higher" else -1) * (means[0] - means[1])
    return Paired(float(np.round(scale * np.sort(gains).mean(), digits)), *wilcoxon(np.round(gains, digits)))


def _verdict(row: dict[str, Any], metrics: Iterable[str]) -> str:
    """Return what the metrics with a difference say, by their ranks and by their means."""
    shown = [metric for metric in metrics if row[f"{metric}_p_holm"] < ALPHA]
    return _outcome({int(np.sign(row[f"{metric}_{what}"])) for metric in shown for what in ("lean", "gain")})


def _outcome(leanings: set[int]) -> str:
    if not leanings:
        return NONE
    return BETTER if leanings == {1} else WORSE if leanings == {-1} else MIXED
