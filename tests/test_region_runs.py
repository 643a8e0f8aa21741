"""Region perturbation through whole runs on real images, and on real weights where these matter."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import rapbench
from rapbench.app.cli import main
from rapbench.core.random import seed_of
from rapbench.data.samples import samples
from rapbench.protocols.regions import ORDERS
from tests.results import regions as of_regions
from tests.results import write_results
from tests.small import SMALL
from tests.test_regions import replaced_one_by_one

REAL = "efficientnet_lite0"
FEW = ["protocol=[regions]", "protocol.regions.steps=6", "subset.n=5", "gallery=0"]


def run(*overrides, model=SMALL, results="results", code=0):
    assert main(["run", f"model={model}", *FEW, f"results={results}", *overrides]) == code
    return Path(results, "run", model)


@pytest.fixture
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_a_runs_scores_are_those_of_images_replaced_one_by_one(somewhere, lite):
    frame = of_regions(run("method=[rap,random]", "protocol.regions.output=probability", model=REAL))
    assert list(frame.columns) == ["image", "label", "method", "order", "perturbation", "step", "output", "predicted",
                                   "correct", "score"]  # fmt: skip
    assert len(frame) == 5 * 2 * 3 * 7
    assert set(frame.output) == {"probability"}
    assert list(dict.fromkeys(frame.order)) == list(ORDERS)
    file, label = frame.image.unique()[3], frame.label.unique()[3]
    picture = samples().root / file
    x = lite.transform(Image.open(picture))
    sha256 = pd.read_csv("results/run/efficientnet_lite0/manifest.csv").set_index("file").sha256[file]
    heatmap = rapbench.attribute(lite, x[None], [label], "rap")[0].sum(0)
    moments = torch.full((3,), 127 / 255), torch.full((3,), 128 / 255)
    for order in ORDERS:
        states = replaced_one_by_one(x, heatmap, seed_of(0, sha256, "regions"), order, 9, 6, "uniform", moments)
        with torch.no_grad():
            want = lite(states.float()).softmax(1)[:, label]
        got = frame[(frame.image == file) & (frame.method == "rap") & (frame.order == order)]
        assert got.score.tolist() == pytest.approx(want.tolist(), rel=2e-3)


def test_a_random_order_is_the_same_for_every_method_to_the_last_bit(somewhere):
    frame = of_regions(run("method=[rap,sensitivity,random]"))
    drawn = frame[frame.order == "random"].drop(columns=["method"])
    parts = [part.reset_index(drop=True) for _, part in drawn.groupby(frame.method)]
    assert len(parts) == 3
    assert parts[0].equals(parts[1])
    assert parts[0].equals(parts[2])
    other = of_regions(run("method=[random]", "seed=1"))
    assert not np.allclose(other[other.order == "random"].score, parts[0].score, atol=1e-3)


def test_chunks_and_batches_move_no_score(somewhere):
    whole, *others = (
        of_regions(run("method=[rap,random]", *overrides, results=f"run{place}"))
        for place, overrides in enumerate([(), ("chunk=1", "batch=1"), ("chunk=2", "batch=7")])
    )
    for other in others:
        assert other.drop(columns="score").equals(whole.drop(columns="score"))
        assert (other.score - whole.score).abs().max() < 2e-3


def test_shards_and_a_restart_give_the_bytes_of_one_run(somewhere):
    wanted = ["method=[rap,random]", "chunk=2"]
    whole = run(*wanted, results="whole")
    for shard in ("2/2", "1/2", "1/2"):
        folder = run(*wanted, f"shard={shard}")
    for name in ("results.parquet", "regions.csv", "aopc.csv", "aopc.md", "regions.png", "regions.pdf"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes(), name
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in ("regions.csv", "aopc.csv", "aopc.md", "regions.png", "regions.pdf", "report.html"):
        (folder / name).unlink()
    assert main(["report", str(folder)]) == 0
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_a_longer_run_begins_with_a_shorter_one(somewhere):
    short, long = (of_regions(run("method=[rap]", f"protocol.regions.steps={steps}"))
                   for steps in (6, 9))  # fmt: skip
    begun = long[long.step <= 6].reset_index(drop=True)
    assert begun.drop(columns="score").equals(short.drop(columns="score"))
    assert (begun.score - short.score).abs().max() < 2e-3


def test_two_variants_in_one_run_and_what_exists_is_not_computed_again(somewhere, capsys):
    options = ("method=[random]", "+protocol.blurred.name=regions", "+protocol.blurred.fill=blur",
               "+protocol.blurred.steps=6", "+protocol.blurred.output=probability")  # fmt: skip
    areas = pd.read_csv(run(*options) / "aopc.csv")
    assert areas[["perturbation", "order", "output"]].values.tolist() == [
        [name, order, output] for name, output in (("regions", "logit"), ("blurred", "probability")) for order in ORDERS
    ]
    assert "AOPC of the probability of the target over L = 6 regions (blurred)" in capsys.readouterr().out
    cells = list(Path("results/store/cells").glob("*/*.parquet"))
    times = [path.stat().st_mtime_ns for path in cells]
    run(*options)
    assert [path.stat().st_mtime_ns for path in cells] == times
    assert len(cells) == 2


def test_a_folder_holds_the_results_of_its_last_run_alone(somewhere):
    folder = run("method=[random]")
    assert main(["run", f"model={SMALL}", *FEW[2:], "method=[random]", "protocol=[distance]"]) == 0
    tables = {path.name for path in folder.iterdir() if path.suffix in (".parquet", ".csv")}
    assert tables == {"results.parquet", "distance.csv", "manifest.csv"}


@pytest.mark.parametrize(("overrides", "says"), [
    (["protocol.regions.steps=577"], "protocol 'regions': steps=577 is more than there are regions: 224 x 224 pixels "
                                     "have 576 of 9 x 9; take fewer steps or a smaller size"),
    (["protocol.regions.size=225"], "steps=6 is more than there are regions: .* have 0 of 225 x 225"),
    (["protocol.regions.size=0"], "protocol 'regions': option size=0: Input should be greater than 0"),
    (["protocol.regions.steps=0"], "option steps=0: Input should be greater than 0"),
    (["protocol.regions.fill=black"], "option fill='black': Input should be 'image_min'"),
    (["protocol.regions.output=odds"], "option output='odds': Input should be 'logit' or 'probability'"),
    (["+protocol.regions.k.positive=[1]"], "'regions' has no option 'k'; its options: size, steps, fill, output"),
])  # fmt: skip
def test_what_cannot_be_is_refused_in_one_line(overrides, says, somewhere, capsys):
    run("method=[random]", *overrides, model=REAL, code=2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"^rapbench: .*{says}", last)


def test_drift_holds_a_run_to_its_region_scores(somewhere, capsys):
    folder = run("method=[random]")
    baseline = ["drift", str(folder), "--baseline", "own.csv"]
    assert main([*baseline, "--update"]) == 0
    assert main(baseline) == 0
    frame = of_regions(folder)
    moved = (frame.image == frame.image[0]) & (frame.order == "lerf") & (frame.step == 3)
    frame.loc[moved, "score"] += 0.1
    write_results(folder, regions=frame)
    capsys.readouterr()
    assert main(baseline) == 1
    cells = [cell.strip() for cell in capsys.readouterr().out.split("|")]
    assert cells[cells.index("random") :][:4] == ["random", "lerf", "3", "regions"]
    assert "1 of 5" in cells


@pytest.mark.slow
def test_methods_find_regions_that_matter_on_real_images(somewhere):
    areas = pd.read_csv(run("method=[rap]", "protocol.regions.steps=100", "subset.n=20", model=REAL) / "aopc.csv")
    most, least, drawn = (areas[areas.order == order].value.item() for order in ORDERS)
    assert most > drawn > least
