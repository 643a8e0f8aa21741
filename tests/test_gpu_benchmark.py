"""`benchmarks/gpu.py` on the CPU, tiny: its table is whole, and says what the time did not suffice for."""

import runpy
import sys
from pathlib import Path

import pytest
import torch

from rapbench.methods import methods
from rapbench.protocols import protocols

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
WORDS = {"no time", "no memory", "refused", "-"}
IMAGES = 6  # perturbed, by sign and protocol
TABLE1 = ("sensitivity", "gradient_x_input", "integrated_gradients", "lrp_a1b0", "lrp_a2b1", "lrp_preset_a",
          "lrp_preset_b", "rap", "random", "edge")  # fmt: skip


@pytest.fixture
def script(monkeypatch, capsys):
    """Run the script in this process; return what it prints."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), *words])
        runpy.run_path(str(SCRIPT), run_name="__main__")
        return capsys.readouterr().out

    return call


def rows_of(printed: str) -> dict[str, list[str]]:
    """Return the table's cells by row."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in printed.splitlines() if line[:1] == "|"]
    assert rows[0] == ["", "fp32", "tf32", "bf16", "GiB an image"]
    return {row[0].partition(",")[0].strip("`"): row[1:] for row in rows[2:]}


@pytest.mark.parametrize("limit", [0, 12])
def test_it_stops_with_what_it_has(limit, script):
    printed = script("--device", "cpu", "--quick", "--networks", "resnet18", "--seconds", str(limit))
    rows = rows_of(printed)
    asking = [name for name in protocols if not protocols[name].function().recomputed()]
    assert printed.startswith("# ")
    assert "## resnet18" in printed
    assert set(rows) == {"forward pass", *asking, *methods, "Table I"}
    assert all(cell in WORDS or float(cell) > 0 for cells in rows.values() for cell in cells)
    if not limit:
        assert {cell for cells in rows.values() for cell in cells} == {"no time", "-"}
    else:
        assert all(float(cell) for cell in rows["forward pass"][:3])
    for column in range(3):
        costs = []
        for method in TABLE1:
            asked = IMAGES * len(methods[method].facts.signs)
            costs.append((1, rows[method][column if column < 2 else 0]))
            costs += [(asked, rows["removal"][column]), (asked, rows["shuffling"][column]),
                      (1, rows["distance"][column])]  # fmt: skip
        said = rows["Table I"][column]
        if any(cost in WORDS for _, cost in costs):
            assert said == "no time"
        else:
            assert float(said) == pytest.approx(sum(n * float(cost) for n, cost in costs) / 1000 * 500 / 60, rel=0.02)


def test_without_a_gpu_it_says_so(script, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert script() == "no GPU here; --device cpu --quick tries the script out\n"
