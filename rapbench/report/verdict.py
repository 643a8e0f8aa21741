"""Each method against the controls: whether it finds pixels any better than chance, or than the image's edges."""

from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from rapbench.report.statistics import ALPHA, holm, wilcoxon
from rapbench.report.tables import NAMES, by_image, markdown_name, ordered

CONTROLS = ("random", "edge")
# The better method's accuracy and score: lower without the positive pixels, higher without the negative ones.
DIRECTION = {"positive": -1, "negative": 1}
METRICS = {"accuracy": "correct", "score": "logit"}
SYMBOLS = {"better": "✓", "no better": "≈", "worse": "✗", "mixed": "±"}
DOING = {"removal": "removing", "shuffling": "shuffling"}
KEYS = ["sign", "perturbation", "control", "method"]
COLUMNS = [*KEYS, "verdict", "n", "ks", *(f"{metric}_{what}" for metric in METRICS for what in ("gain", "p", "p_holm"))]
LEGEND = (
    "What is compared is each image's mean over the K between 0 and 'all': Wilcoxon's signed-rank test, Holm-corrected "
    "over the methods and both metrics of a column. ✓ better, ✗ worse (p < 0.05; where only one metric shows it, that "
    "one is named); ≈ no better: no difference is shown; ± the metrics contradict each other. Without positive pixels "
    "lower is better, without negative pixels higher."
)
FEW = 100  # images, below which it is said that they are few


def verdicts(images: pd.DataFrame) -> pd.DataFrame:
    """Compare each method with each control on the same images, over all K at once: COLUMNS, in the order of Table I.

    An image's value is its mean over the K that are numbers above 0 (`all` is another number of pixels for each
    method; it is taken only where there is nothing else): how often it is still right, and its label's logit. gain: by
    how much method is better than control, in points and in logits (see DIRECTION). p: two-sided, Wilcoxon;
    p_holm: corrected over the methods and metrics of one sign, perturbation and control. verdict: better or worse, if
    one metric says so (p_holm < 0.05) and the other does not contradict; mixed if it does; else no better.
    """
    rows: list[dict] = []
    for (sign, perturbation), part in images.groupby(["sign", "perturbation"], sort=False):
        if sign not in DIRECTION:
            continue
        for control in (control for control in CONTROLS if control in set(part["method"])):
            family = []
            for method in ordered("method", part["method"]):
                row = _against(part, control, method, DIRECTION[str(sign)]) if method not in (control, "random") else {}
                family += [row] if row else []
            corrected = iter(holm(np.array([row[f"{metric}_p"] for row in family for metric in METRICS])))
            for row in family:
                row |= {"sign": sign, "perturbation": perturbation, "control": control}
                row |= {f"{metric}_p_holm": next(corrected) for metric in METRICS}
                row["verdict"] = _verdict(row)
            rows += family
    table = pd.DataFrame(rows, columns=COLUMNS)
    places = {key: {name: rank for rank, name in enumerate(ordered(key, table[key]))} for key in KEYS}
    places["control"] = {name: rank for rank, name in enumerate(CONTROLS)}
    return table.sort_values(KEYS, key=lambda column: column.map(places[str(column.name)]), ignore_index=True)


def columns(table: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Return the (sign, perturbation, control) that were compared, in order."""
    return list(dict.fromkeys(table[["sign", "perturbation", "control"]].itertuples(index=False, name=None)))


def words(row: "pd.Series | None") -> str:
    """Return a verdict with its symbol; the metric is named where it alone says so."""
    if row is None:
        return ""
    shown = [metric for metric in METRICS if row[f"{metric}_p_holm"] < ALPHA]
    only = f" ({shown[0]})" if len(shown) == 1 else ""
    return f"{SYMBOLS[row['verdict']]} {row['verdict']}{only}"


def heading(sign: str, perturbation: str, control: str) -> str:
    """Return what a column compares, in words."""
    return f"{doing(sign, perturbation)}, against {NAMES.get(control, control)}"


def doing(sign: str, perturbation: str) -> str:
    """Return what is done to which pixels, in words."""
    return f"{DOING.get(perturbation, f'{perturbation} of')} {sign} pixels"


def caution(table: pd.DataFrame) -> str:
    """Return what few images mean for a verdict; empty where they are not few."""
    n = table["n"].min()
    if n >= FEW:
        return ""
    return f"{n} image{' is' if n == 1 else 's are'} few: 'no better' may only mean that a difference cannot be shown."


def markdown_verdict(table: pd.DataFrame) -> str:
    """Lay the verdicts out: a row for each method, a column for each sign, perturbation and control."""
    if table.empty:
        return f"### Against the controls\n\nNeither {' nor '.join(CONTROLS)} is among the methods: no verdict."
    chosen = columns(table)
    found = {tuple(row[key] for key in KEYS): row for _, row in table.iterrows()}
    rows = [
        [markdown_name(method),
         *(words(found.get((*column, method))) for column in chosen)]
        for method in ordered("method", table["method"])
    ]  # fmt: skip
    headings = ["", *(heading(*column) for column in chosen)]
    shown = tabulate(rows, headings, "pipe", disable_numparse=True)
    return "\n\n".join(text for text in ["### Against the controls", caution(table), shown, LEGEND] if text)


def terminal_verdict(table: pd.DataFrame) -> str:
    """Say for each sign, perturbation and control which methods are better, no better and worse: a line each."""
    lines = []
    for sign, perturbation, control in columns(table):
        part = table[(table[["sign", "perturbation", "control"]] == [sign, perturbation, control]).all(axis=1)]
        said = []
        for verdict, symbol in SYMBOLS.items():
            names = [NAMES.get(name, name) for name in part[part["verdict"] == verdict]["method"]]
            said += [f"{symbol} {verdict}: {', '.join(names)}"] if names else []
        lines.append(f"{heading(sign, perturbation, control)}\n  " + "\n  ".join(said))
    if not lines:
        return ""
    title = "Against the controls (paired tests over all K, Holm-corrected)"
    return "\n".join(text for text in [title, caution(table), *lines] if text) + "\n"


def _against(part: pd.DataFrame, control: str, method: str, direction: int) -> dict[str, Any]:
    """Return gain and p of both metrics over the K and the images that both have; {} where they share none."""
    both = part[part["method"].isin([control, method]) & (part["k"] != "0")]
    shared = both.groupby("k")["method"].nunique()
    ks = ordered("k", shared[shared == 2].index)
    ks = [k for k in ks if k != "all"] or ks
    both = both[both["k"].isin(ks)]
    there = by_image(both, ["method", "k"], "correct").notna().all(axis=1)
    if not ks or not there.any():
        return {}
    row: dict[str, Any] = {"method": method, "n": int(there.sum()), "ks": " ".join(ks)}
    for metric, value in METRICS.items():
        wide = by_image(both, ["method", "k"], value)[there]
        # Summed in the order of K and rounded, or equal means of different sums would not tie.
        means = {name: np.round(wide[name][ks].to_numpy().mean(1), 9) for name in (method, control)}
        gains = direction * (means[method] - means[control])
        row[f"{metric}_gain"] = np.round((100 if metric == "accuracy" else 1) * np.sort(gains).mean(), 9)
        row[f"{metric}_p"], row[f"{metric}_lean"] = wilcoxon(np.round(gains, 9))
    return row


def _verdict(row: dict) -> str:
    """Return what the metrics with a difference say, by their ranks and by their means."""
    shown = [metric for metric in METRICS if row[f"{metric}_p_holm"] < ALPHA]
    leanings = {int(np.sign(row[f"{metric}_{what}"])) for metric in shown for what in ("lean", "gain")}
    if not leanings:
        return "no better"
    return "better" if leanings == {1} else "worse" if leanings == {-1} else "mixed"
