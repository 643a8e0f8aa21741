"""What the paper is about, on the paper's weights: RAP's negative pixels do not matter to the network."""

import pandas as pd
import pytest

from rapbench.app.cli import main


@pytest.mark.slow
def test_rap_finds_negative_pixels_that_the_network_does_not_need(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    methods = ["rap", "lrp_a2b1", "gradient_x_input", "random"]
    assert main(["run", f"method=[{','.join(methods)}]", "protocol=[removal]", "k.positive=[0]"]) == 0
    table = pd.read_csv("results/run/resnet50_keras/table1.csv", dtype={"k": str})
    negative = table[(table.sign == "negative") & (table.metric == "accuracy")]
    cells = negative.pivot(index="k", columns="method", values="value")
    assert (cells.loc["0"] == 100).all()
    others = cells.drop(index="0").drop(columns="rap").max(axis=1)
    assert (cells.drop(index="0").rap > others).all()
    assert cells.rap["2000"] >= others["2000"] + 15
