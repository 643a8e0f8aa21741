"""What bfloat16 changes of Table I: how many predictions, and each cell.

Usage: python benchmarks/precision.py [MODEL [FOLDER [OVERRIDES]]], by default efficientnet_lite0 on the embedded images
in results/precision. With ImageNet: `resnet50_keras results/precision data=imagenet data.root=/path subset.n=300`. The
folder keeps what is computed, so a stopped call goes on there. Both runs share their heatmaps, which are float32.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from tabulate import tabulate

from rapbench.app.cli import main as rapbench
from rapbench.report.table1 import KEYS, table1
from rapbench.results.display import ordered
from rapbench.results.file import NAME, read
from rapbench.results.layouts import PERTURBATION, laid_out

PIXELS = ["image", "method", "sign", "perturbation", "k"]


def main(model: str = "efficientnet_lite0", folder: str = "results/precision", *overrides: str) -> None:
    """Run Table I in both precisions, and print the shares of predictions and the cells that moved."""
    found = {precision: images(model, Path(folder), precision, *overrides) for precision in ("fp32", "bf16")}
    both = found["fp32"].merge(found["bf16"], on=PIXELS, suffixes=("", "_bf16"), validate="one_to_one")
    both["changed"] = both["predicted"] != both["predicted_bf16"]
    clean = both[both["k"] == "0"].drop_duplicates("image")
    perturbed = both[both["k"] != "0"]
    print(f"{model}, {len(clean)} images; predictions that bfloat16 changes")
    print(f"  of the images as they are        {clean['changed'].sum():6d} of {len(clean)}")
    print(f"  of the perturbed images          {perturbed['changed'].mean():8.2%} of {len(perturbed)}")
    tables = [table1(found[precision]).set_index(KEYS)["value"] for precision in found]
    moves = (tables[1] - tables[0]).rename("move").reset_index()
    moves = moves[moves["k"] != "0"]
    print("  how far the cells of Table I move: mean of the sizes, and the largest")
    rows = [(metric, perturbation, len(part), part["move"].abs().mean(), signed_largest(part["move"]))
            for (metric, perturbation), part in moves.groupby(["metric", "perturbation"])]  # fmt: skip
    print(tabulate(rows, headers=["metric", "perturbation", "cells", "mean", "largest"], floatfmt="+.3f"))
    for metric, decimals in (("accuracy", 1), ("score", 3)):
        part = moves[moves["metric"] == metric]
        for sign in ordered("sign", part["sign"]):
            wide = part[part["sign"] == sign].pivot(index=["method", "perturbation"], columns="k", values="move")
            wide = wide[ordered("k", wide.columns)]
            print(f"\n{metric}, {sign} attributions: bf16 - fp32")
            print(tabulate(wide.reset_index().to_dict("list"), headers="keys", floatfmt=f"+.{decimals}f"))


def images(model: str, folder: Path, precision: str, *overrides: str) -> pd.DataFrame:
    """Return the per-image results of Table I in one precision."""
    place = folder / precision
    wanted = ["run", "experiment=table1", f"model={model}", "protocol=[removal,shuffling]", "heatmaps=float32"]
    if code := rapbench([*wanted, f"precision={precision}", *overrides, f"results={folder}", f"hydra.run.dir={place}"]):
        sys.exit(code)
    return laid_out(read(place / NAME), PERTURBATION)


def signed_largest(values: pd.Series) -> float:
    """Return the value of the largest size, with its sign."""
    return float(values.iloc[int(np.argmax(values.abs()))])


if __name__ == "__main__":
    main(*sys.argv[1:])
