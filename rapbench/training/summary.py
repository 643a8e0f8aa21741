"""The figures over folds: tables beside the paper's numbers, and pictures, of all folds that a folder holds."""

import time
from pathlib import Path
from typing import Any

import pandas as pd

from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole
from rapbench.core.spreadsheet import csv_text
from rapbench.data.ct.cubes import REAL, described
from rapbench.report.canvas import figure_files
from rapbench.report.intervals import stacked
from rapbench.report.table_text import Block, latex_blocks, markdown_blocks, terminal_blocks
from rapbench.results.published import published_luna16
from rapbench.store.claim import Claim
from rapbench.training.figures import FIGURES, MEAN, POOLED, TITLES, table
from rapbench.training.fold import PREDICTIONS, record_of
from rapbench.training.pictures import confusion_figure, roc_figure, shown_ratios

STEM = "classification"
LOCK = "summary.lock"
PAPER = "paper (LUNA16)"
NAMES = {MEAN: "mean", POOLED: "all folds together"}


def fold_folder(folder: Path, number: int) -> Path:
    """Return where a fold's files are."""
    return folder / f"fold{number}"


def summarise(folder: Path, study: str) -> str:
    """Write the figures over all finished folds of a study in a folder, and return their text.

    study: its digest. Folds of other settings, data or code are named, and not counted. Whoever ends last writes the
    figures over all: one process at a time reads and writes. Raises RapbenchError where there is no such fold.
    """
    while (claim := Claim.of(folder / LOCK)) is None:
        time.sleep(0.1)
    with claim:
        records, others = _records(folder, study)
        if not records:
            raise RapbenchError(f"{folder} holds no finished fold of this training")
        folds = {number: predictions_of(fold_folder(folder, number)) for number in sorted(records)}
        return _write(folder, folds, records, others)


def predictions_of(folder: Path) -> pd.DataFrame:
    """Return a finished fold's predictions: candidate, label, probability, balanced."""
    return pd.read_csv(folder / PREDICTIONS, dtype={"candidate": str}, keep_default_na=False)


def _records(folder: Path, study: str) -> tuple[dict[int, dict[str, Any]], list[int]]:
    """Return the records of a study's finished folds, and the numbers of other finished folds."""
    found = [record for path in folder.glob("fold*") if (record := record_of(path)) and path == fold_folder(
        folder, record["fold"])]  # fmt: skip
    ours = {record["fold"]: record for record in found if record["study"] == study}
    return ours, sorted(record["fold"] for record in found if record["study"] != study)


def _write(folder: Path, folds: dict[int, pd.DataFrame], records: dict[int, dict[str, Any]], others: list[int]) -> str:
    figures = table(folds)
    header = _header(records, others)
    blocks = _blocks(figures, next(iter(records.values())))
    title, ratios = header[0], shown_ratios(figures)
    files: dict[str, str | bytes] = {
        f"{STEM}.csv": csv_text(figures),
        f"{STEM}.md": "\n\n".join([*header, *markdown_blocks(blocks)]) + "\n",
        f"{STEM}.tex": latex_blocks(blocks, header, header[:1], stacked),
        **figure_files(roc_figure(folds, ratios, title), "roc"),
        **figure_files(confusion_figure(folds, ratios, title), "confusion"),
    }
    for name, content in files.items():
        write_whole(folder / name, content.encode() if isinstance(content, str) else content)
    return "\n\n".join([*header, terminal_blocks(blocks).rstrip(), f"Written to {folder}/"])


def _header(records: dict[int, dict[str, Any]], others: list[int]) -> list[str]:
    key = next(iter(records.values()))["key"]
    data, cross, training = (key[part] for part in ("data", "folds", "training"))
    shuffled = training["labels"] == "shuffled"
    what = "A control, trained on shuffled labels" if shuffled else "A network that tells nodules from other candidates"
    count = f"{len(records)} of {cross['folds']} folds" if len(records) < cross["folds"] else f"{cross['folds']} folds"
    lines = [f"{what}: {described(data['name'])}; {count}, {cross['scheme']}, by scan."]
    epochs = sorted({record["best_epoch"] for record in records.values()})
    best = f"{epochs[0]}" if len(epochs) == 1 else f"{epochs[0]} to {epochs[-1]}"
    lines.append(
        f"Weights are those of the epoch with the lowest validation loss (epoch {best} of {training['epochs']}); "
        f"seed {training['seed']}. Test parts are of scans that nothing was trained or chosen on."
    )
    if others:
        lines.append(f"Not counted, as settings, data or code were others: fold {', '.join(map(str, others))}.")
    return lines


def _blocks(figures: pd.DataFrame, record: dict[str, Any]) -> list[Block]:
    paper = published_luna16()
    data = record["key"]["data"]["name"]
    blocks = []
    for ratio in shown_ratios(figures):
        part = figures[figures["ratio"] == ratio]
        rows = []
        for fold in dict.fromkeys(part["fold"]):
            cells = part[part["fold"] == fold].set_index("figure")
            rows.append((NAMES.get(fold, f"fold {fold}"), [_cell(cells.loc[name]) for name in FIGURES]))
        rows.append((PAPER, [f"{paper[name]:g}" if name in paper else "" for name in FIGURES]))
        whole = part[~part["fold"].isin([MEAN, POOLED]) & (part["figure"] == FIGURES[0])]
        n, nodules = int(whole["n"].sum()), int(whole["nodules"].sum())
        chance = 200 * nodules / (n + nodules)
        natural = ratio == "natural" or record["key"]["folds"]["share"] is None
        how = f"{'natural ratio' if natural else 'balanced'}, {nodules / n:.1%} nodules"
        caption = (
            f"Per cent [95 % interval: of folds and all folds Wilson's over candidates, of the mean Student's t over "
            f"folds]; {n:,} candidates, {nodules:,} of them nodules; to call all nodules gives an F1 of {chance:.1f}."
        )
        notes = [f"The paper's numbers were measured on LUNA16, these on {data}."] if data != REAL else []
        heads = [TITLES[name] for name in FIGURES]
        blocks.append(Block(f"{described(data)}, {how}", caption, heads, rows, notes, ""))
    return blocks


def _cell(row: pd.Series) -> str:
    if pd.isna(row["value"]):
        return ""
    value = f"{row['value']:.1f}"
    return value if pd.isna(row["low"]) else f"{value} [{row['low']:.1f}, {row['high']:.1f}]"
