"""What ranking 10 methods by 20 metrics on 500 images costs, against the means of the same tables.

Usage: python benchmarks/ranking.py. A ratio of CPU time, of one run.
"""

import time

import numpy as np
import pandas as pd

from rapbench.protocols.base.metric import Metric
from rapbench.report.ranking_part import Ranking
from rapbench.results.info import MethodInfo, ProtocolInfo
from rapbench.results.run import Run, typed

METHODS = [*(f"m{number}" for number in range(9)), "random"]
INFO = ProtocolInfo((Metric("x", {"": "higher"}), Metric("y", {"": "lower"})))


def main() -> None:
    """Print the ratio."""
    places = [[f"{image}.png" for image in range(500)], METHODS, [str(k) for k in range(16)]]
    grid = pd.MultiIndex.from_product(places, names=["input", "method", "k"]).to_frame(index=False)
    draw = np.random.default_rng(0)
    tables = {}
    for number in range(10):
        x, y = draw.normal(size=(2, len(grid)))
        tables[f"p{number}"] = typed(grid.assign(label=0, variant="", x=x, y=y), INFO.metrics)
    known = {name: MethodInfo(control=name == "random") for name in METHODS}
    run = Run("net", "samples", known, dict.fromkeys(tables, INFO), tables)
    start = time.process_time()
    for table in tables.values():
        table.groupby(["method", "k"])[["x", "y"]].mean()
    means = time.process_time() - start
    Ranking.of(run)
    took = time.process_time() - start - means
    print(f"ranks, intervals and agreement of 20 metrics: {took / means:.1f} times the means")


if __name__ == "__main__":
    main()
