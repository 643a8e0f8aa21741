"""ROC curves and confusion matrices of folds."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rapbench.report import escape
from rapbench.report.plots import COLOURS, panel_grid
from rapbench.training.figures import RATIOS, at_ratio, confusion, figures, roc

FOLD, ALL = "#88CCEE", COLOURS[8]
CLASSES = ("other", "nodule")
WAYS = {"balanced": "balanced", "natural": "natural ratio"}


def roc_figure(folds: dict[int, pd.DataFrame], ratios: list[str], title: str) -> Figure:
    """Draw each fold's ROC curve, and that of all predictions together: a panel a ratio."""
    drawing, panels = panel_grid(1, len(ratios), title)
    for panel, ratio in zip(panels[0], ratios, strict=True):
        parts = {fold: at_ratio(whole, ratio) for fold, whole in folds.items()}
        for fold, part in parts.items():
            _curve(panel, part, f"fold {fold}", color=FOLD, linewidth=1.0)
        if len(parts) > 1:
            _curve(panel, pd.concat(parts.values()), "all folds", color=ALL, linewidth=2.0)
        panel.plot([0, 1], [0, 1], color="#777777", linestyle="dotted", linewidth=1)
        panel.set(title=WAYS[ratio], xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        panel.grid(alpha=0.25)
        panel.spines[["top", "right"]].set_visible(False)
        if len(panel.lines) <= 8:  # more would hide the curves
            panel.legend(loc="lower right", frameon=False, fontsize="small")
        else:
            panel.legend(handles=panel.lines[-2:-1], loc="lower right", frameon=False, fontsize="small")
    return drawing


def confusion_figure(folds: dict[int, pd.DataFrame], ratios: list[str], title: str) -> Figure:
    """Draw the confusion matrix of all folds together, counts and shares of each row: a panel a ratio."""
    drawing, panels = panel_grid(1, len(ratios), title)
    for panel, ratio in zip(panels[0], ratios, strict=True):
        counts = confusion(pd.concat([at_ratio(whole, ratio) for whole in folds.values()]))
        whole = counts.sum(1, keepdims=True)
        shares = np.divide(counts, whole, out=np.zeros(counts.shape), where=whole > 0)
        panel.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = f"\n{100 * shares[row, column]:.1f} %" if whole[row, 0] else ""
            colour = "white" if shares[row, column] > 0.5 else "black"
            panel.text(column, row, f"{count:,}{share}", ha="center", va="center", color=colour)
        panel.set_xticks(range(2), CLASSES)
        panel.set_yticks(range(2), CLASSES)
        panel.set(title=WAYS[ratio], xlabel="the network says", ylabel="it is")
        panel.spines[:].set_visible(False)
    return drawing


def shown_ratios(table: pd.DataFrame) -> list[str]:
    """Return the ratios that a table has."""
    return [ratio for ratio in RATIOS if (table["ratio"] == ratio).any()]


def _curve(panel: Axes, part: pd.DataFrame, name: str, **style: object) -> None:
    false, true = roc(part)
    if len(false):
        area = figures(part)["auc"]
        panel.plot(false, true, label=escape.figure(f"{name}: AUC {area:.1f} %"), **style)  # type: ignore[arg-type]
