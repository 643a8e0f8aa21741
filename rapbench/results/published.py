"""The numbers that the paper printed."""

import functools

import pandas as pd

from rapbench.core.paths import resource


@functools.cache
def published_table1() -> pd.DataFrame:
    """Return the paper's Table I (VGG-16, 500 images) as printed, arXiv 1904.00605v1.

    Columns: sign, method, metric, perturbation, k (str), value (accuracy in per cent, score a mean logit) and note
    (what is wrong with a misprinted cell, else empty).
    """
    path = resource("baselines", "published", "table1.csv")
    return pd.read_csv(path, dtype={"k": str, "note": str}, keep_default_na=False)


@functools.cache
def published_luna16() -> dict[str, float]:
    """Return the paper's five figures of its 3-D network on LUNA16, means over ten folds in per cent, as printed."""
    table = pd.read_csv(resource("baselines", "published", "luna16.csv"))
    return dict(zip(table["figure"], table["value"], strict=True))
