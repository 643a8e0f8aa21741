"""The images of Figure 7a: those that only RAP's negative pixels can be taken from without harm."""

from dataclasses import dataclass

import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.core.signs import Sign
from rapbench.report.table_text import image_counts
from rapbench.results.display import NAMES, ordered

OURS = "rap"


@dataclass(frozen=True)
class Chosen:
    """files: the images, in the order to show. others: whom RAP was compared with. sentence: which images these are."""

    files: list[str]
    others: list[str]
    sentence: str


def choose(images: pd.DataFrame, k: str, count: int) -> Chosen:
    """Choose up to `count` images that stay correct without the K most negative pixels by RAP, and by RAP only.

    images: per-image results as `table1.table1` takes them. RAP is compared with everything that the figure shows and
    that has negative pixels, the controls too. Where there is no such image, those that most of the others fail on are
    taken. Raises RapbenchError where the results do not tell, or RAP leaves no image correct.
    """
    part = removed(images, "negative", k)
    correct = part.pivot(index="image", columns="method", values="correct")
    correct = correct.loc[list(dict.fromkeys(part["image"]))]  # as in the subset
    others = [name for name in ordered("method", part["method"]) if name != OURS]
    if OURS not in correct or not others:
        raise RapbenchError(f"images are chosen by {OURS} and others with negative relevance: method=[{OURS},lrp_a2b1]")
    correct = correct.dropna()  # what one of them was not measured on is not compared
    wrong = (~correct.loc[correct[OURS].astype(bool), others].astype(bool)).sum(axis=1)
    if wrong.empty:
        raise RapbenchError(f"no image stays correct without RAP's {k} most negative pixels: nothing to show")
    wrong = wrong.sort_values(ascending=False, kind="stable")
    alone = int((wrong == len(others)).sum())
    files = list(wrong.index[: min(count, alone or count)])
    names = ", ".join(NAMES.get(name, name) for name in others)
    of = image_counts(pd.Series([len(correct)]))
    if alone:
        are = "is" if len(files) == 1 else "are"
        stay = "stays" if alone == 1 else "stay"
        which = f"{alone} of {of} {stay} correct with RAP's ranking and with no other ({names})"
        which += f"; {len(files)} of these {are} shown"
    else:
        failing = ", ".join(str(number) for number in wrong[files])
        which = f"no image of {of} stays correct with RAP's ranking only. On the images shown, {failing} of the "
        which += f"{len(others)} other methods ({names}) fail"
    return Chosen([str(file) for file in files], others, f"Without the {k} most negative pixels, {which}.")


def removed(images: pd.DataFrame, sign: Sign, k: str) -> pd.DataFrame:
    """Return the rows for the first perturbation of K pixels of a sign. Raises RapbenchError where the run has none."""
    first = ordered("perturbation", images["perturbation"])[0] if len(images) else ""
    part = images[(images["perturbation"] == first) & (images["sign"] == sign)] if len(images) else images
    known = ordered("k", part["k"]) if len(part) else []
    if k not in known:
        raise RapbenchError(
            f"the run has no {first or 'perturbation'} of {k} {sign} pixels; its K: {', '.join(known) or 'none'}"
        )
    return part[part["k"] == k]
