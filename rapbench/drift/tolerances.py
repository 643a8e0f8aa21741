"""How far results may lie apart on another platform, found by perturbing this one.

The same configuration is run again with other kernels, threads, batches and chunks, all of which change the order of
additions and so the last bits. Most pixels keep their rank, near ties do not; what that does to a logit is measured,
not guessed. A row is a method, protocol and sign; which of its K meets a near tie is chance, so its K share what is
found.
"""

import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.drift.comparable import differences, other_platform
from rapbench.drift.compared_run import CELL, ROUNDING, ComparedRun
from rapbench.methods import methods
from rapbench.protocols.base.ks import is_share

# Times the largest deviation seen, as the next platform is not one of those tried.
FACTOR = 5
# Relative, where no ranking is involved: an image as it is, or a ranking that does not look at the model.
EXACT = 1e-3
ROW = CELL[:3]


def derive(run: ComparedRun, perturbed: list[ComparedRun]) -> pd.DataFrame:
    """Return each cell's tolerances, indexed by CELL: its columns, all absolute, NaN where it has none.

    Of a class, such as predicted: how many images may have another one. Of all else: of each image. Five times the
    largest deviation in the row, or the median row's of that protocol where that is more; of classes at least one,
    as nothing bounds the margin between two classes. K = 0, and rankings that do not look at the model (regions' random
    order too): 1e-3 of the value, no prediction. `selected` where every image has K pixels: five times the cell's own,
    usually 0.
    Raises RapbenchError for a run that is of something else, or perturbs nothing.
    """
    for other in perturbed:
        _check(run, other)
    seen = pd.concat([_deviations(run, other) for other in perturbed]).groupby(level=CELL, sort=False).max()
    cells = seen.index.to_frame(index=False)
    values = run.values.groupby(level=CELL, sort=False)
    looks = {label: _looks_at_model(run, label) for label in run.identity["methods"]}
    ranked = (cells["k"].ne("0") & cells["sign"].ne("random") & cells["method"].map(looks)).to_numpy()
    fewest, share = values["selected"].min(), cells["k"].map(is_share).to_numpy(bool)
    full = fewest == pd.to_numeric(cells["k"], errors="coerce").to_numpy()
    full |= share & (fewest == values["selected"].max()).to_numpy()
    rows = seen[ranked].groupby(level=ROW, sort=False).max()
    found = rows.reindex(pd.MultiIndex.from_frame(cells[ROW])).set_axis(seen.index)
    typical = rows.groupby(level="protocol").median().reindex(cells["protocol"]).set_axis(seen.index)
    found = FACTOR * found.where(found >= typical, typical)
    found["selected"] = found["selected"].mask(full, FACTOR * seen["selected"])
    classes, counts = ([name for name, kind in run.kinds.items() if kind == what] for what in ("class", "count"))
    found[classes] = found[classes].clip(1, len(run.images))
    least = EXACT * run.values.abs().groupby(level=CELL, sort=False).max().clip(lower=1)
    least[classes + counts] = 0.0
    found.loc[~ranked] = least.loc[~ranked]
    return found.where(found >= least, least).where(seen.notna()).map(lambda value: float(f"{value:.2g}"))


def _looks_at_model(run: ComparedRun, label: str) -> bool:
    name = run.identity["methods"][label]["name"]
    return name not in methods or methods[name].facts.looks_at_model


def _deviations(run: ComparedRun, other: ComparedRun) -> pd.DataFrame:
    """The largest deviation of any image in each cell; of classes, how many."""
    apart = (run.values - other.values).abs()
    classes = [name for name, kind in run.kinds.items() if kind == "class"]
    apart[classes] = apart[classes].where(apart[classes].isna(), apart[classes].ne(0).astype(float))
    cells = apart.groupby(level=CELL, sort=False)
    return cells.max().assign(**{name: cells[name].sum(min_count=1) for name in classes})


def _check(run: ComparedRun, other: ComparedRun) -> None:
    if found := differences(run, other, but=ROUNDING):
        raise RapbenchError(f"{other.source} is no perturbed run of {run.source}: {found[0]}")
    if run.code != other.code or run.versions["rapbench"] != other.versions["rapbench"]:
        raise RapbenchError(f"{other.source} was computed by other code than {run.source}; run both again")
    if not other_platform(run, other) and run.identity["chunk"] == other.identity["chunk"]:
        raise RapbenchError(f"{other.source} perturbs nothing: it has the threads, kernels, batch and chunk of "
                            f"{run.source}")  # fmt: skip
    if (run.values.isna() != other.values.isna()).any(axis=None):
        raise RapbenchError(f"{other.source} has other missing values than {run.source}: {', '.join(run.kinds)}")
