"""What a table alone does not show of its numbers, in sentences."""

import pandas as pd

from rapbench.report.table_text import Notes
from rapbench.report.verdict import names_of
from rapbench.results.display import ordered, pixels_of


def clean_remark(images: pd.DataFrame) -> str:
    """Say how many clean images are classified correctly, if that is known and not all of them."""
    clean = images[images["k"] == "0"].drop_duplicates("image")
    wrong = int((~clean["correct"].astype(bool)).sum())
    if not wrong:
        return ""
    return f"At K = 0 (clean images) the network classifies {len(clean) - wrong} of {len(clean)} correctly."


def exhausted_remarks(results: pd.DataFrame) -> Notes:
    """Say, by sign, for which methods and K every map has fewer than K pixels: such a K stands for `all`.

    results: per-image results as `table1.table1` or `distance.distance_table` take them.
    """
    numbers = results[~results["k"].isin(["0", "all"])]
    remarks: Notes = {}
    for sign in ordered("sign", numbers["sign"]):
        part = numbers[numbers["sign"] == sign]
        methods = ordered("method", part["method"])
        ks = {name: _beyond(part[part["method"] == name]) for name in methods}
        remarks[sign] = [_exhausted(sign, found, [name for name in methods if ks[name] == found], len(methods))
                         for found in dict.fromkeys(ks.values()) if found]  # fmt: skip
    return remarks


def _beyond(part: pd.DataFrame) -> tuple[str, ...]:
    """Return the K that are more than any map of a method has pixels of a sign."""
    most = part.groupby("k")["selected"].max()
    return tuple(k for k in ordered("k", most.index) if most[k] < (pixels_of(k) or 0))


def _exhausted(sign: str, ks: tuple[str, ...], methods: list[str], of: int) -> str:
    same = f"K = {', '.join(ks)} select{'s' if len(ks) == 1 else ''} the same pixels as 'all'"
    if len(methods) == of:
        return f"{same}: no map has that many {sign} pixels."
    whose = "its maps" if len(methods) == 1 else "their maps"
    return f"{same} for {names_of(methods)}: none of {whose} has that many {sign} pixels."
