"""How well a network tells nodules from other candidates: the paper's five figures and the area under the ROC curve.

A figure that is not defined, such as the precision where nothing is called a nodule, is NaN, and empty in every table.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_accuracy,
    binary_auroc,
    binary_confusion_matrix,
    binary_f1_score,
    binary_precision,
    binary_recall,
    binary_roc,
    binary_specificity,
)

from rapbench.report.statistics import t_interval, wilson

FIGURES = ("accuracy", "precision", "recall", "specificity", "f1", "auc")
TITLES = {"accuracy": "accuracy", "precision": "precision", "recall": "recall", "specificity": "specificity",
          "f1": "F1", "auc": "AUC"}  # fmt: skip
RATIOS = ("balanced", "natural")
MEAN, POOLED = "mean", "pooled"
COLUMNS = ["ratio", "fold", "figure", "value", "low", "high", "n", "nodules"]
NAN = float("nan")


def figures(predictions: pd.DataFrame) -> dict[str, float]:
    """Return the figures of predictions (label, probability) in per cent; a probability above 0.5 says nodule."""
    p, y = _tensors(predictions)
    if not len(y):
        return dict.fromkeys(FIGURES, NAN)
    of: dict[str, Callable[..., Tensor]] = {
        "accuracy": binary_accuracy,
        "precision": binary_precision,
        "recall": binary_recall,
        "specificity": binary_specificity,
        "f1": binary_f1_score,
        "auc": binary_auroc,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of figures that are not defined
        values = {name: 100 * float(function(p, y)) for name, function in of.items()}
    called, nodules = int((p > 0.5).sum()), int(y.sum())
    defined = {"precision": called > 0, "recall": nodules > 0, "specificity": nodules < len(y),
               "f1": called > 0 and nodules > 0, "auc": 0 < nodules < len(y)}  # fmt: skip
    return {name: value if defined.get(name, True) else NAN for name, value in values.items()}


def intervals(predictions: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Return each figure's 95 % interval over candidates: Wilson's of proportions; of the AUC none.

    F1 = 2J / (1 + J) rises with J, the share of nodules that were found among all candidates that are or are called
    nodules; its ends are those of J's interval.
    """
    tn, fp, fn, tp = confusion(predictions).ravel().tolist()
    counts = {"accuracy": (tp + tn, tp + tn + fp + fn), "precision": (tp, tp + fp), "recall": (tp, tp + fn),
              "specificity": (tn, tn + fp), "f1": (tp, tp + fp + fn)}  # fmt: skip
    values = figures(predictions)
    found = {name: wilson(right, n) if n and not np.isnan(values[name]) else (NAN, NAN)
             for name, (right, n) in counts.items()}  # fmt: skip
    low, high = (200 * end / (100 + end) for end in found["f1"])
    return found | {"f1": (low, high), "auc": (NAN, NAN)}


def confusion(predictions: pd.DataFrame) -> np.ndarray:
    """Return [[other as other, other as nodule], [nodule as other, nodule as nodule]], how many of each."""
    p, y = _tensors(predictions)
    if not len(y):
        return np.zeros((2, 2), dtype=np.int64)
    return np.asarray(binary_confusion_matrix(p, y).numpy())


def roc(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return the false and the true positive rates of all thresholds, both rising; empty without both classes."""
    p, y = _tensors(predictions)
    if len(y.unique()) < 2:
        return np.empty(0), np.empty(0)
    false, true, _ = binary_roc(p, y)
    return false.numpy(), true.numpy()


def table(folds: dict[int, pd.DataFrame]) -> pd.DataFrame:
    """Return every figure of each fold, their mean, and of all folds' predictions together: COLUMNS.

    folds: each fold's predictions (candidate, label, probability, balanced). ratio: of nodules, as balanced for the
    test or natural; natural only where every fold has predicted all. low, high: the 95 % interval, over candidates
    (`intervals`), of the mean Student's t over the folds; a mean is
    defined where the figure is in every fold. n: candidates, of the mean the folds.
    """
    rows = []
    for ratio in RATIOS:
        parts = {fold: part for fold, whole in folds.items() if len(part := at_ratio(whole, ratio))}
        if len(parts) < len(folds) or (ratio == "natural" and all(map(same_at_all_ratios, folds.values()))):
            continue
        named = {str(fold): part for fold, part in parts.items()}
        single = {name: figures(part) for name, part in named.items()}
        if len(parts) > 1:
            named[POOLED] = pd.concat(parts.values())
        for name, part in named.items():
            if name == POOLED:
                rows += _means(ratio, list(single.values()))
            values, ends = single.get(name) or figures(part), intervals(part)
            rows += [(ratio, name, one, values[one], *ends[one], len(part), int(part["label"].sum()))
                     for one in FIGURES]  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def at_ratio(predictions: pd.DataFrame, ratio: str) -> pd.DataFrame:
    """Return the predictions of the balanced draw, or all."""
    return predictions[predictions["balanced"] == 1] if ratio == "balanced" else predictions


def same_at_all_ratios(predictions: pd.DataFrame) -> bool:
    """Whether only the balanced draw was predicted, or there is no more."""
    return bool((predictions["balanced"] == 1).all())


def _means(ratio: str, single: Sequence[dict[str, float]]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name in FIGURES:
        values = np.array([one[name] for one in single])
        if np.isnan(values).any():  # without the folds that lack it, the mean would be too good
            rows.append((ratio, MEAN, name, NAN, NAN, NAN, len(values), None))
            continue
        low, high = (float(np.clip(end, 0, 100)) for end in t_interval(values))
        rows.append((ratio, MEAN, name, float(values.mean()), low, high, len(values), None))
    return rows


def _tensors(predictions: pd.DataFrame) -> tuple[Tensor, Tensor]:
    p = torch.tensor(predictions["probability"].to_numpy(dtype=np.float64))
    return p, torch.tensor(predictions["label"].to_numpy(dtype=np.int64))
