"""`rapbench drift` on runs made by hand: each kind of drift, each kind of what cannot be compared, and the baseline."""

import copy
import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from rapbench.app.cli import main
from rapbench.drift.compared_run import read_run
from rapbench.drift.shipped import shipped_baselines
from rapbench.drift.tolerances import derive
from tests.reader import made
from tests.results import write_results
from tests.small import SMALL

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/drift.md").read_text()
BLOCKS = [block.splitlines() for block in re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S)]
IMAGES = {f"{name}.jpg": {"label": label, "sha256": 64 * str(label)} for label, name in enumerate("abcd", start=1)}
KS = {"positive": [0, 50, "all"], "negative": [0, 500, "all"]}
PIXELS = 900  # of a sign
PROVENANCE: dict[str, Any] = {
    "versions": {"rapbench": "0.1.0", "torch": "2.15.0"},
    "machine": {"device": "cpu", "machine": "x86_64", "threads": 2, "cpu": "AVX512", "processor": "one, L2 1024 KiB",
                "torch_threads": 2},
    "model": {"name": "net", "weights_sha256": "w" * 64, "preprocessing": "Preprocess(bicubic)"},
    "seeds": {"run": 0},
    "methods": {
        "rap": {"name": "rap", "options": {"residual": "proportional"}, "k": {}, "code": "1"},
        "random": {"name": "random", "options": {}, "k": {}, "code": "2"},
    },
    "protocols": {
        name: {"name": name, "options": {}, "k": KS, "code": "3"} for name in ("removal", "shuffling", "distance")
    },
    "config": {"name": "hand", "model": {"name": "net"}, "data": {"name": "samples", "summary": "s", "root": "/here"},
               "precision": "fp32", "heatmaps": None, "chunk": 8, "batch": 8},
}  # fmt: skip


class Run:
    """A run's results in memory, to be changed and written."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        rows = [
            (image, facts["label"], method, sign, protocol, str(k))
            for method in ("rap", "random") for protocol in ("removal", "shuffling", "distance")
            for sign, ks in KS.items() for k in ks for image, facts in IMAGES.items()
        ]  # fmt: skip
        names = ["image", "label", "method", "sign", "perturbation", "k"]
        frame = pd.DataFrame(rows, columns=names)
        frame["selected"] = [PIXELS if k == "all" else int(k) for k in frame["k"]]
        measured = frame["perturbation"] == "distance"
        self.images = frame[~measured].reset_index(drop=True)
        self.images["predicted"] = self.images["label"]
        self.images["correct"] = True
        self.images["logit"] = draw.normal(8, 3, len(self.images)).astype(np.float32)
        self.distances = frame[measured & (frame["k"] != "0")].reset_index(drop=True)
        self.distances["distance"] = draw.uniform(5, 100, len(self.distances))
        self.provenance = copy.deepcopy(PROVENANCE)
        self.manifest = copy.deepcopy(IMAGES)

    def at(self, image: str, method: str = "rap", protocol: str = "removal", sign: str = "positive", k: str = "50"):
        frame = self.distances if protocol == "distance" else self.images
        cell = (frame["method"] == method) & (frame["perturbation"] == protocol) & (frame["sign"] == sign)
        (found,) = frame.index[cell & (frame["k"] == k) & (frame["image"] == image)]
        return found

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        write_results(folder, self.images, self.distances)
        (folder / "provenance.json").write_text(json.dumps(self.provenance))
        rows = [f"{file},{facts['label']},{facts['sha256']},1.0,net,w," for file, facts in self.manifest.items()]
        (folder / "manifest.csv").write_text("\n".join(["file,label,sha256,logit,model,weights_sha256,also", *rows]))
        return folder


Change = Callable[[Run], object]
BASELINE = Path("baselines/drift/net.csv")


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def drift(change: Change = lambda run: None, *arguments: str, code: int = 0, folder: str = "results") -> None:
    run = Run()
    change(run)
    where = run.write(Path(folder))
    assert main(["drift", str(where), "--baseline", str(BASELINE), *arguments]) == code


def freeze(*perturbed: Change) -> None:
    folders = []
    for number, change in enumerate(perturbed):
        run = Run()
        run.provenance["machine"]["threads"] = 3 + number
        change(run)
        folders.append(str(run.write(Path(f"perturbed{number}"))))
    drift(lambda run: None, "--update", *(["--perturbed", *folders] if folders else []), folder="frozen")


def elsewhere(run: Run) -> None:
    run.provenance["machine"] |= {"cpu": "AVX2"}


def set_logit(run: Run, value: float, **where: str) -> None:
    run.images.loc[run.at("b.jpg", **where), "logit"] = np.float32(value)


def test_equal_results_have_not_drifted(capsys):
    freeze()
    drift()
    assert "No drift" in capsys.readouterr().out


def shuffled_rows(run: Run) -> None:
    run.images = run.images.sample(frac=1, random_state=1)
    run.distances = run.distances.sample(frac=1, random_state=2)


def tiny(run: Run) -> None:
    run.images["logit"] *= np.float32(1 + 0.9e-4)
    run.distances["distance"] *= 1 - 0.9e-4


def both_nan(run: Run) -> None:
    run.distances.loc[run.at("b.jpg", protocol="distance"), "distance"] = np.nan


@pytest.mark.parametrize("change", [
    shuffled_rows, tiny,
    lambda run: run.provenance["methods"]["rap"].update(code="9"),
    lambda run: run.provenance["config"]["data"].update(root="/elsewhere"),
])  # fmt: skip
def test_what_is_no_drift(change):
    freeze()
    drift(change)


def test_logits_near_zero_are_compared_on_the_scale_of_one():
    def near_zero(value: float) -> Change:
        return lambda run: set_logit(run, value)

    drift(near_zero(0.001), "--update")
    drift(near_zero(0.00109))
    drift(near_zero(0.00111), code=1)


def test_nan_equals_nan_and_no_number(capsys):
    drift(both_nan, "--update")
    drift(both_nan)
    capsys.readouterr()
    drift(code=1)
    out = capsys.readouterr().out
    assert "| b.jpg | rap" in " ".join(out.split())
    assert "1 of 32 cells" in out  # 2 methods x 2 signs x (2 perturbations x 3 K + distances at 2 K)


def other_logit(run: Run) -> None:
    set_logit(run, 1.25)


def other_class(run: Run) -> None:
    run.images.loc[run.at("b.jpg"), "predicted"] = 7


def other_count(run: Run) -> None:
    run.images.loc[run.at("b.jpg"), "selected"] = 49


def other_distance(run: Run) -> None:
    run.distances.loc[run.at("b.jpg", protocol="distance"), "distance"] += 0.02


def nan_logit(run: Run) -> None:
    set_logit(run, float("nan"))


DRIFTS = {
    other_logit: ("removal", "→ 1.25"),
    other_class: ("removal", "2 → 7"),
    other_count: ("removal", "50 → 49"),
    other_distance: ("distance", "→"),
    nan_logit: ("removal", "→ nan"),
}


@pytest.mark.parametrize("change", DRIFTS)
def test_a_drift_names_the_cell_and_the_image(change, capsys, tmp_path, monkeypatch):
    freeze()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    (tmp_path / "summary.md").write_text("before\n")
    drift(change, code=1)
    captured = capsys.readouterr()
    protocol, shown = DRIFTS[change]
    cells, images = [[line for line in part.splitlines() if line.startswith("| ")][1:]
                     for part in captured.out.split("Images that moved")]  # fmt: skip
    (cell,), (image,) = cells, images
    words = [word.strip() for word in cell.split("|")[1:-1]]
    assert words[:4] == ["rap", "positive", "50", protocol]
    assert words[-1] == "1 of 4"
    assert image.startswith("| b.jpg")
    assert shown in image
    assert captured.err.startswith("rapbench: 1 of 32 cells have drifted from baselines/drift/net.csv")
    summary = (tmp_path / "summary.md").read_text()
    assert summary.startswith("before\n### Drift: 1 of 32 cells moved")
    assert cell in summary


def test_a_cell_says_from_what_to_what(capsys):
    freeze()
    drift(lambda run: (other_class(run), other_logit(run)), code=1)
    before, after = Run(), Run()
    other_logit(after)
    rows = [before.at(image) for image in IMAGES]
    first, second = (run.images.loc[rows, "logit"].mean() for run in (before, after))
    cell = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("| rap"))
    assert [word.strip() for word in cell.split("|")[5:8]] == ["100 → 75", f"{first:.4g} → {second:.4g}", ""]


@pytest.mark.parametrize(("change", "said"), [
    (lambda run: run.provenance["model"].update(weights_sha256="v" * 64), "weights_sha256: www"),
    (lambda run: run.provenance["model"].update(preprocessing="Preprocess(bilinear)"), "preprocessing: Preprocess(bi"),
    (lambda run: run.provenance["seeds"].update(run=1), "seed: 0 in the baseline, 1 here"),
    (lambda run: run.provenance["config"].update(precision="bf16"), "precision: fp32 in the baseline, bf16 here"),
    (lambda run: run.provenance["config"].update(chunk=4), "chunk: 8 in the baseline, 4 here"),
    (lambda run: run.provenance["config"].update(heatmaps="float16"), "heatmaps: float32 in the baseline, float16"),
    (lambda run: run.provenance["config"]["data"].update(name="folder"), "data.name: samples in the baseline, folder"),
    (lambda run: run.provenance["methods"]["rap"]["options"].update(residual="absolute"),
     "methods.rap.options.residual: proportional in the baseline, absolute here"),
    (lambda run: run.provenance["methods"].pop("random"), "methods.random: only in the baseline"),
    (lambda run: run.provenance["methods"].update(edge={"name": "edge", "code": ""}), "methods.edge: not in the base"),
    (lambda run: run.provenance["protocols"]["removal"].update(k={"positive": [0, 51, "all"]}),
     "protocols.removal.k.positive: [0, 50, 'all'] in the baseline, [0, 51, 'all'] here"),
    (lambda run: run.manifest.pop("c.jpg"), "images: only in the baseline: c.jpg"),
    (lambda run: run.manifest.update({"e.jpg": {"label": 3, "sha256": "5" * 64}}), "images: only here: e.jpg"),
    (lambda run: run.manifest["c.jpg"].update(sha256="0" * 64), "images: other bytes or another label: c.jpg"),
    (lambda run: setattr(run, "images", run.images[run.images["method"] != "random"]),
     "cells: missing here: random removal negative, random removal positive, random shuffling"),
    (lambda run: setattr(run, "distances", pd.concat([run.distances, run.distances.query("k == 'all'").assign(k="7")])),
     "cells: not in the baseline: random distance negative"),
])  # fmt: skip
def test_what_cannot_be_compared_is_named(change, said, capsys, tmp_path, monkeypatch):
    freeze()
    capsys.readouterr()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    drift(change, code=2)
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert said in line
    assert "To do: " in line
    assert said in captured.out
    assert (tmp_path / "summary.md").read_text().startswith("### Not comparable")


def test_another_platform_needs_tolerances(capsys):
    freeze()
    drift(elsewhere, code=2)
    assert "platform: cpu AVX512 there, AVX2 here, and the baseline states no tolerances" in capsys.readouterr().err


@pytest.mark.parametrize("facts", [{"threads": 1}, {"cpu": "AVX2"}, {"device": "cuda"}, {"machine": "arm64"},
                                   {"processor": "another"}, {"name": "H100"}])  # fmt: skip
def test_what_makes_another_platform(facts, capsys):
    freeze(other_logit)
    capsys.readouterr()
    drift(lambda run: run.provenance["machine"].update(facts))
    assert f"Another platform ({next(iter(facts))} " in capsys.readouterr().out
    drift(lambda run: run.provenance["versions"].update(torch="2.16.0"))
    assert "Another platform (torch 2.15.0 there, 2.16.0 here)" in capsys.readouterr().out


def moved_by(amount: float, here: Change = elsewhere, **where: str) -> Change:
    def change(run: Run) -> None:
        here(run)
        run.images.loc[run.at("b.jpg", **where), "logit"] += np.float32(amount)

    return change


def test_tolerances_are_five_times_what_perturbing_did():
    """One row deviates by 0.2: its K share 1.0; other protocols have 1e-3 of their largest logit."""
    freeze(moved_by(0.2, lambda run: None), lambda run: None)
    drift(moved_by(0.99))
    drift(moved_by(1.01), code=1)
    drift(moved_by(0.99, k="all"))
    drift(moved_by(1.01, k="all"), code=1)
    drift(moved_by(0.1, protocol="shuffling"), code=1)
    drift(moved_by(0.1, k="0"), code=1)  # no ranking: exact but for the last digits
    drift(moved_by(0.004, k="0"))
    drift(moved_by(0.1, method="random"), code=1)
    known = yaml.safe_load(BASELINE.with_suffix(".yaml").read_text())
    stated = {(t["method"], t["protocol"], t["sign"], t["k"]): t for t in known["tolerances"]}
    assert len(stated) == 32
    assert stated["rap", "removal", "positive", "all"]["logit"] == 1.0
    assert stated["rap", "removal", "positive", "0"]["logit"] < 0.02
    assert [machine["threads"] for machine in known["perturbed"]] == [3, 4]


def test_a_random_order_has_no_ranking_that_could_move(tmp_path):
    run = read_run(Run().write(tmp_path / "run"))
    run = replace(run, values=run.values.rename(index={"positive": "random"}, level="sign"))
    moved = run.values.copy()
    for sign in ("random", "negative"):
        moved.loc[("rap", "removal", sign, "all", "b.jpg"), "logit"] += 0.2
    found = derive(run, [replace(run, values=moved, platform=run.platform | {"threads": 3})])["logit"]
    assert found["rap", "removal", "random", "all"] < 0.02
    assert found["rap", "removal", "negative", "all"] == 1.0


def test_at_home_tolerances_say_nothing():
    freeze(moved_by(0.2, lambda run: None))
    drift(moved_by(0.1))
    drift(moved_by(0.1, lambda run: None), code=1)


def test_a_row_is_given_what_the_median_row_of_its_protocol_shows():
    """Of rap's two rows under removal only one deviates, by 0.2: the median 0.1 goes to the other, times 5."""
    freeze(moved_by(0.2, lambda run: None))
    drift(moved_by(0.49, sign="negative", k="500"))
    drift(moved_by(0.51, sign="negative", k="500"), code=1)


def test_so_many_images_may_be_classified_otherwise():
    def flipped(*images: str, **where: str) -> Change:
        return lambda run: run.images.isetitem(
            run.images.columns.get_loc("predicted"),
            run.images["predicted"].mask(run.images.index.isin([run.at(image, **where) for image in images]), 9),
        )

    def there(change: Change) -> Change:
        return lambda run: (elsewhere(run), change(run))

    freeze(lambda run: None)
    drift(there(flipped("b.jpg")))
    drift(there(flipped("b.jpg", "c.jpg")), code=1)
    drift(there(flipped("b.jpg", k="0")), code=1)
    drift(there(flipped("b.jpg", method="random")), code=1)
    freeze(flipped("a.jpg"))
    drift(there(flipped("a.jpg", "b.jpg", "c.jpg", "d.jpg")))
    drift(there(flipped("b.jpg", "c.jpg", protocol="shuffling")), code=1)


def test_the_number_of_pixels_is_exact_where_every_image_has_k():
    def counted(by: int, k: str) -> Change:
        def change(run: Run) -> None:
            elsewhere(run)
            run.images.loc[run.at("b.jpg", k=k), "selected"] += by

        return change

    freeze(lambda run: counted(-2, "all")(run))
    drift(counted(-10, "all"))
    drift(counted(-11, "all"), code=1)
    drift(counted(-1, "50"), code=1)


def test_distances_elsewhere():
    def moved(by: float) -> Change:
        def change(run: Run) -> None:
            elsewhere(run)
            run.distances.loc[run.at("b.jpg", protocol="distance"), "distance"] += by

        return change

    freeze(moved(0.5))
    drift(moved(2.49))
    drift(moved(2.51), code=1)


@pytest.mark.parametrize(("change", "said"), [
    (lambda run: run.provenance["seeds"].update(run=1), "is no perturbed run of frozen: seed: 0 in the baseline"),
    (lambda run: run.provenance["methods"]["rap"].update(code="9"), "was computed by other code"),
    (lambda run: run.provenance["machine"].update(threads=2), "perturbs nothing"),
    (both_nan, "has other missing values"),
])  # fmt: skip
def test_a_perturbed_run_that_is_none_is_refused(change, said, capsys):
    run = Run()
    run.provenance["machine"]["threads"] = 1
    change(run)
    run.write(Path("perturbed"))
    drift(lambda run: None, "--update", "--perturbed", "perturbed", code=2, folder="frozen")
    assert said in capsys.readouterr().err
    assert not BASELINE.exists()


def test_a_perturbed_run_may_have_another_chunk():
    freeze(lambda run: run.provenance["config"].update(chunk=3))


def test_update_prints_the_difference_and_writes_the_same_bytes_again(capsys):
    freeze()
    assert "Baseline baselines/drift/net.csv: new, 32 cells, 4 images." in capsys.readouterr().out
    before = [BASELINE.with_suffix(end).read_bytes() for end in (".csv", ".yaml")]
    drift(shuffled_rows, "--update")
    assert [BASELINE.with_suffix(end).read_bytes() for end in (".csv", ".yaml")] == before
    assert "No drift" in capsys.readouterr().out
    drift(other_class, "--update")
    out = capsys.readouterr().out
    assert "Drift: 1 of 32 cells moved" in out
    assert "2 → 7" in out
    drift(other_class)
    drift(code=1)
    changed = set(BASELINE.read_text().splitlines()) ^ set(before[0].decode().splitlines())
    assert len(changed) == 2  # a line an image: a diff shows it
    capsys.readouterr()
    drift(lambda run: run.provenance["seeds"].update(run=5), "--update")
    assert "frozen for other settings" in capsys.readouterr().out
    drift(lambda run: run.provenance["seeds"].update(run=5))


def test_a_logit_goes_to_the_baseline_and_back_unchanged():
    from rapbench.drift.baseline import read_baseline
    from rapbench.drift.compared_run import read_run

    freeze()
    assert read_baseline(BASELINE).values.equals(read_run(Path("frozen")).values)


def no_provenance() -> None:
    Path("results/provenance.json").unlink()


def no_results() -> None:
    Path("results/results.parquet").unlink()


@pytest.mark.parametrize(("spoil", "said"), [
    (no_provenance, "results is not the folder of a whole run"),
    (no_results, "results holds no results.parquet"),
    (lambda: Path("results/results.parquet").write_bytes(b"PAR1"), "results is not the folder of a whole run"),
    (lambda: Path("results/provenance.json").write_text("{"), "results is not the folder of a whole run"),
    (lambda: Path("results/manifest.csv").unlink(), "results/manifest.csv is not a file"),
    (lambda: write_results(Path("results"), pd.concat([Run().images] * 2)), "0 a.jpg twice; run again"),
    (lambda: BASELINE.unlink(), "there is no baseline baselines/drift/net.csv; freeze one"),
    (lambda: BASELINE.with_suffix(".yaml").unlink(), "there is no baseline baselines/drift/net.yaml; freeze one"),
    (lambda: BASELINE.write_text("method,protocol\n"), "is not a baseline"),
    (lambda: BASELINE.write_text(BASELINE.read_text().replace("900", "9oo")), "is not a baseline"),
    (lambda: BASELINE.write_text(BASELINE.read_text() + BASELINE.read_text().splitlines()[1] + "\n"), "there twice"),
    (lambda: BASELINE.with_suffix(".yaml").write_text("identity: ["), "is not a baseline"),
    (lambda: BASELINE.with_suffix(".yaml").write_text("just words"), "is not a baseline"),
])  # fmt: skip
def test_what_cannot_be_read_is_one_line(spoil, said, capsys):
    freeze()
    Run().write(Path("results"))
    spoil()
    assert main(["drift", "results", "--baseline", str(BASELINE)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_options_that_make_no_sense(capsys):
    Run().write(Path("results"))
    assert main(["drift", "results", "--baseline", "x.csv", "--perturbed", "y"]) == 2
    assert "--perturbed goes with --update" in capsys.readouterr().err
    assert main(["drift", "results", "--baseline", "x", "--update"]) == 2
    assert "a baseline is named by its CSV file" in capsys.readouterr().err


def test_what_moved_most_comes_first(capsys):
    """A cell of which all images moved before one of which one did; its images by how far they moved."""

    def change(run: Run) -> None:
        set_logit(run, 1.25, method="random")
        for image, by in zip(IMAGES, (0.5, 3.0, 1.0, 2.0), strict=True):
            run.images.loc[run.at(image), "logit"] += np.float32(by)

    freeze()
    drift(change, code=1)
    cells, images = capsys.readouterr().out.split("Images that moved")
    assert re.findall(r"^\| (rap|random)", cells, re.M) == ["rap", "random"]
    assert re.findall(r"^\| (\w)\.jpg", images, re.M) == ["b", "d", "c", "b"]


def test_another_batch_is_another_platform(capsys):
    freeze(other_logit)
    capsys.readouterr()
    drift(lambda run: run.provenance["config"].update(batch=64))
    assert "Another platform (batch 8 there, 64 here)" in capsys.readouterr().out


def test_no_drift_is_told_in_the_summary_too(tmp_path, monkeypatch):
    freeze()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    drift()
    assert (tmp_path / "summary.md").read_text().startswith("### No drift")


def test_long_tables_are_cut_and_say_so(capsys):
    freeze()
    drift(lambda run: run.images.update({"logit": run.images["logit"] + 1}), code=1)
    out = capsys.readouterr().out
    assert "Drift: 24 of 32 cells moved" in out
    assert "... and 32 more." in out  # images: 24 cells, 3 of each
    assert len(out) < 20_000


def test_a_real_run_against_itself(capsys):
    wanted = ["run", f"model={SMALL}", "subset.n=2", "method=[random,edge]", "k.positive=[0,50]",
              "k.negative=[0,all]"]  # fmt: skip
    assert main(wanted) == 0
    folder = f"results/run/{SMALL}"
    for _ in range(2):
        assert main(["drift", folder, "--baseline", "own.csv", "--update"]) == 0
    capsys.readouterr()
    assert main(["drift", folder, "--baseline", "own.csv"]) == 0
    assert "The same platform" in capsys.readouterr().out
    assert main([*wanted, "seed=1", "results=other"]) == 0
    assert main(["drift", f"other/run/{SMALL}", "--baseline", "own.csv"]) == 2
    assert "seed: 0 in the baseline, 1 here" in capsys.readouterr().err


def test_the_make_commands_run_what_the_page_says():
    wanted = {
        "make freeze-drift": "freeze baselines/drift/efficientnet_lite0.csv experiment='drift'",
        "make freeze-drift EXPERIMENT=table1 MODEL=resnet50_keras":
            "freeze baselines/drift/resnet50_keras.csv experiment='table1' model='resnet50_keras'",
        "make check-drift BASELINE=resnet50_keras": "check baselines/drift/resnet50_keras.csv",
    }  # fmt: skip
    told = [line for block in BLOCKS for line in block if line.startswith("make")]
    assert told == list(wanted)
    for command, expected in wanted.items():
        assert " ".join(made(command.split())) == f".venv/bin/python experiments/drift.py {expected}"


@pytest.mark.parametrize(("words", "given"), [
    (["check"], ["check", "baselines/drift/efficientnet_lite0.csv"]),
    (["freeze"], ["freeze", "baselines/drift/efficientnet_lite0.csv", "experiment='drift'"]),
    (["check", "own.csv", "device=cpu"], ["check", "own.csv", "device=cpu"]),
    (["freeze", "own.csv", "experiment=drift"], ["freeze", "own.csv", "experiment=drift"]),
    (["results", "--baseline", "own.csv"], ["results", "--baseline", "own.csv"]),
    ([], []),
])  # fmt: skip
def test_the_script_is_the_command(words, given, monkeypatch):
    called = []
    monkeypatch.setattr("rapbench.app.cli.main", lambda words: called.append(words) or 3)
    monkeypatch.setattr(sys, "argv", ["drift.py", *words])
    with pytest.raises(SystemExit, match=r"^3$"):
        runpy.run_path(str(ROOT / "experiments/drift.py"), run_name="__main__")
    assert called == [["drift", *given]]


RUNS = {
    "no baseline": (["check"], "the following arguments are required: baseline"),
    "no file": (["freeze"], "the following arguments are required: file"),
    "an unknown name": (["check", "efficientnet_lite"], "unknown baseline 'efficientnet_lite' (did you mean "
                        "'efficientnet_lite0'?); known: efficientnet_lite0, resnet50_keras, vgg16_3d_phantoms; "
                        "one of your own is named"),
    "a missing file": (["check", "none.csv"], "there is no baseline none.csv"),
    "no CSV": (["freeze", "mine"], "a baseline is named by its CSV file, such as baselines/drift/mine.csv, not mine"),
    "a baseline that is damaged": (["freeze", "words.csv"], "words.csv with words.yaml is not a baseline"),
    "no folder": (["freeze", "words.yaml/mine.csv"], "baseline=words.yaml cannot be made a folder"),
    "an option": (["check", "efficientnet_lite0", "--update"], "unrecognized arguments: --update"),
}  # fmt: skip


@pytest.mark.parametrize("case", RUNS)
def test_what_cannot_be_run_is_one_line_before_anything_is_run(case, capsys, monkeypatch):
    monkeypatch.setattr("rapbench.app.drift_runs.computed", None)
    for name in ("words.csv", "words.yaml"):
        Path(name).write_text("words")
    words, said = RUNS[case]
    assert main(["drift", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rapbench: {said}")


@pytest.mark.parametrize("name", shipped_baselines())
def test_a_baseline_of_rapbench_s_own_is_checked_by_its_name_from_anywhere(name, monkeypatch, capsys):
    """The run is of its experiment and model, in a folder of its own; its results are not computed here."""
    given = []
    monkeypatch.setattr("rapbench.app.drift_runs.computed", lambda *words: given.append(words) or Path("nothing"))
    assert main(["drift", "check", name, "batch=3"]) == 2
    ((folder, threads, kernels, overrides),) = given
    assert (folder, threads, kernels) == (Path(f"results/drift/{name}/check"), 2, {})
    experiment = {"efficientnet_lite0": "drift", "resnet50_keras": "table1", "vgg16_3d_phantoms": "drift_3d"}[name]
    assert overrides == [f"experiment={experiment}", f"model={name}", "device=cpu", "batch=3"]
    assert main(["drift", str(Run().write(Path("run"))), "--baseline", name]) == 2
    assert f"run cannot be compared with {ROOT}/baselines/drift/{name}.csv: experiment: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_baseline_is_frozen_and_checked_anew(capsys):
    """Four real runs, one of them of other kernels and one of other chunks; then a fifth, compared.

    Trained weights: random ones are drawn by the kernels that are perturbed.
    """
    few = ["model=efficientnet_lite0", "subset.n=4", "method=[random,edge]", "protocol=[removal]", "k.positive=[0,50]",
           "k.negative=[0,all]", "experiment=drift"]  # fmt: skip
    assert main(["drift", "freeze", "own.csv", *few]) == 0
    assert "Baseline own.csv: new, 6 cells, 4 images." in capsys.readouterr().out
    assert len(yaml.safe_load(Path("own.yaml").read_text())["perturbed"]) == 3
    assert main(["drift", "check", "own.csv", *few[1:-1]]) == 0
    assert "No drift" in capsys.readouterr().out
    assert main(["drift", "check", "own.csv", *few[1:-1], "seed=1"]) == 2
    assert "seed: 0 in the baseline, 1 here" in capsys.readouterr().err


@pytest.mark.slow
def test_the_page_s_own_baseline(tmp_path):
    """Its commands one after the other, word for word, in a shell; then another code's results against it."""
    commands = [line for block in BLOCKS[-2:] for line in block]
    assert len(commands) == 5
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/rapbench").write_text(f'#!/bin/sh\nexec {sys.executable} -m rapbench.app.cli "$@"\n')
    (tmp_path / ".venv/bin/rapbench").chmod(0o755)
    for command in commands:
        subprocess.run(command, shell=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    tolerances = yaml.safe_load((tmp_path / "own.yaml").read_text())["tolerances"]
    assert {tolerance["method"] for tolerance in tolerances} == {"rap", "random"}
