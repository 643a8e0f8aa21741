"""Whole runs through the console script's own entry, on real images, and on real weights where these matter."""

import errno
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

import rapbench
from rapbench.app.cli import main
from rapbench.app.unchanged_output import RECORD
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.base.perturbation import Perturbation
from rapbench.report import plots
from rapbench.results.gallery import FILE, load_gallery
from tests.results import distances as of_distances
from tests.results import images as of_images
from tests.small import SMALL, SPACE

ROOT = Path(__file__).resolve().parents[1]
REAL = "efficientnet_lite0"
KS = ["k.positive=[0,250,all]", "k.negative=[0,2000,all]"]
# Of the fixture `counted`, at the top: what a method's function itself holds is a part of its identity.
CALLS: list[int] = []
FAILING: dict[int, BaseException] = {}


@pytest.fixture(autouse=True)
def somewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def run(*overrides: str, model: str = SMALL, chunk: int = 2, code: int = 0) -> Path:
    arguments = ["run", f"model={model}", "subset.n=4", f"chunk={chunk}", *KS, *overrides]
    assert main(arguments) == code
    return Path("results/run", model)


@pytest.fixture
def counted():
    """A user's own method, registered as documented, that notes its calls and can be told to fail at one."""
    CALLS.clear()
    FAILING.clear()

    @methods.register("counted", signs=("positive", "negative"), passes=1)
    def method(model, inputs, targets, *, power: int = 1):
        CALLS.append(len(inputs))
        if len(CALLS) in FAILING:
            raise FAILING.pop(len(CALLS))
        return inputs**power

    return CALLS, FAILING


def test_a_run_writes_everything(capsys):
    folder = run("method=[rap,random,sensitivity,gradient_x_input]", model=REAL)
    written = re.findall(r"^\| (`.*?`) \|", (ROOT / "README.md").read_text().partition("## What a run writes")[2], re.M)
    names = {path.name for path in folder.iterdir() if path.is_file()}
    of_others = "metric-<protocol>"  # of protocols beside the paper's
    assert names == {name for cell in written if of_others not in cell for name in re.findall("`(.*?)`", cell)}
    images = of_images(folder)
    assert list(images.columns) == ["image", "label", "method", "sign", "perturbation", "k", "selected", "predicted",
                                    "correct", "logit"]  # fmt: skip
    # 4 images x 3 K x 2 perturbations x (3 methods of both signs + sensitivity's one)
    assert len(images) == 4 * 3 * 2 * 7
    clean = images[images.k == "0"]
    assert clean.correct.all()
    assert (clean.selected == 0).all()
    assert (clean.groupby("image").logit.nunique() == 1).all()
    assert (images.correct == (images.predicted == images.label)).all()

    table = pd.read_csv(folder / "table1.csv", dtype={"k": str})
    cell = table[
        (table.method == "rap") & (table.sign == "negative") & (table.perturbation == "removal") & (table.k == "2000")
    ]
    chosen = images[
        (images.method == "rap")
        & (images.sign == "negative")
        & (images.perturbation == "removal")
        & (images.k == "2000")
    ]
    assert cell[cell.metric == "accuracy"].value.item() == pytest.approx(100 * chosen.correct.mean())
    assert cell[cell.metric == "score"].value.item() == pytest.approx(chosen.logit.mean(), rel=1e-6)
    assert (cell.n == 4).all()

    provenance = json.loads((folder / "provenance.json").read_text())
    assert provenance["model"]["weights_sha256"] == rapbench.load_model("efficientnet_lite0").weights_sha256
    assert provenance["versions"]["torch"] == torch.__version__
    assert provenance["methods"]["rap"]["options"]["residual"] == "proportional"
    assert provenance["config"]["subset"]["n"] == 4
    printed = capsys.readouterr().out
    assert "4 of the 20 embedded ImageNet images" in printed
    assert "not the paper's" in printed
    assert printed.rstrip().endswith(f"\nWritten to {folder}/")
    assert "RAP" in printed


def test_the_logits_are_those_of_perturbed_images():
    """One cell against the slow way: attribute one image, perturb it pixel by pixel, ask the model."""
    from PIL import Image

    from rapbench.data.samples import samples

    folder = run("method=[rap]", "protocol=[removal]", model=REAL)
    images = of_images(folder)
    row = images[(images.sign == "negative") & (images.k == "2000")].iloc[1]
    model = rapbench.load_model("efficientnet_lite0")
    x = model.transform(Image.open(samples().root / row.image))[None]
    heat = rapbench.attribute(model, x, [row.label], "rap")[0].sum(0).flatten().tolist()
    order = sorted((r, position) for position, r in enumerate(heat) if r < 0)[:2000]
    flat = x[0].flatten(1)
    lowest = float(flat.min())
    for _, position in order:
        flat[:, position] = lowest
    with torch.no_grad():
        logits = model(x)[0]
    assert row.selected == len(order) == 2000
    assert row.logit == pytest.approx(float(logits[row.label]), rel=2e-3)
    assert row.predicted == int(logits.argmax())


def test_what_exists_is_not_computed_again(counted, capsys):
    calls, _ = counted
    run("method=[random]", "+method.counted.name=counted")
    assert calls == [2, 2]
    folder = run("method=[random]", "+method.counted.name=counted")
    assert calls == [2, 2]
    before = (folder / "results.parquet").read_bytes()
    run("method=[random,sensitivity]", "+method.counted.name=counted")  # another method beside it
    assert calls == [2, 2]
    run("method=[random]", "+method.counted.name=counted")
    assert (folder / "results.parquet").read_bytes() == before
    run(
        "method=[random]", "+method.counted.name=counted", "+method.counted.power=3"
    )  # another option is another result
    assert calls == [2] * 4
    run("method=[random]", "+method.counted.name=counted", "protocol.removal.fill=mean")  # as is another protocol
    assert calls == [2] * 6


def test_a_stopped_run_goes_on_where_it_stopped(counted, capsys):
    calls, failing = counted
    wanted = ["method=[rap]", "+method.counted.name=counted"]
    whole = run(*wanted, "results=uninterrupted").parents[2] / "uninterrupted/run" / SMALL
    assert calls == [2, 2]
    failing[4] = KeyboardInterrupt()  # in the second chunk
    run(*wanted, code=130)
    assert "the same command goes on from there" in capsys.readouterr().err
    assert calls == [2] * 4
    folder = run(*wanted)
    assert calls == [2] * 5  # only the chunk that was missing
    for name in ("results.parquet", "table1.csv", "manifest.csv"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()
    assert not list(Path("results/store").rglob("*.parts"))


def test_nan_relevance_names_the_method_and_the_image(counted, capsys):
    @methods.register("broken", signs=("positive",), passes=1)
    def method(model, inputs, targets):
        inputs[1, 0, 5, 5] = float("nan")
        return inputs

    run("method=[random]", "+method.broken.name=broken", code=2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(
        "rapbench: 1 of 2 methods could not be used: broken: NaN or infinite relevance for image ima"
    )
    folder = Path("results/run", SMALL)
    assert set(pd.read_csv(folder / "table1.csv").method) == {"random"}  # the others go on
    assert "Methods that could not be used: broken: NaN" in (folder / "table1.md").read_text()


class Odd(Exception):
    """An exception of a user's own, that says nothing."""


RAISING = {
    "odd": (Odd(), "Odd"),
    "value": (ValueError("two\nlines"), "ValueError: two lines"),
    "key": (KeyError("conv1"), "KeyError: 'conv1'"),
    "assertion": (AssertionError("no"), "AssertionError: no"),
    "deep": (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum"),
    "missing": (ModuleNotFoundError("No module named 'x'"), "ModuleNotFoundError: No module"),
    "leaving": (SystemExit(3), "SystemExit: 3"),
}


def test_a_method_that_raises_goes_alone_named_with_file_and_line(capsys):
    def in_torch(model, inputs, targets):
        return torch.zeros(3) + torch.zeros(4)  # raises inside torch

    def complex_relevance(model, inputs, targets):
        return inputs.to(torch.complex64) * 1j

    def nothing(model, inputs, targets):
        return None

    def raising(error):
        def method(model, inputs, targets):
            raise error

        return method

    wrong = {name: raising(error) for name, (error, _) in RAISING.items()}
    wrong |= {"in_torch": in_torch, "nothing": nothing, "complex_relevance": complex_relevance}
    for name, method in wrong.items():
        methods.register(name, signs=("positive",), passes=1)(method)
    run("method=[random,edge]", *(f"+method.{name}.name={name}" for name in wrong), "protocol=[distance]", code=2)
    error = capsys.readouterr().err
    last = error.splitlines()[-1]
    assert last.startswith(f"rapbench: {len(wrong)} of {len(wrong) + 2} methods could not be used: ")
    assert "Traceback" not in error
    for name, (_, says) in RAISING.items():
        assert re.search(rf"{name}: {re.escape(says)}.* \({re.escape(__file__)}:\d+\)", last), name
    line = in_torch.__code__.co_firstlineno + 1
    assert re.search(rf"in_torch: RuntimeError: The size of tensor .* \({re.escape(__file__)}:{line}\)", last)
    assert "nothing: method 'nothing' must return relevance" in last
    assert "complex_relevance: relevance must be floating-point numbers, got torch.complex64" in last
    folder = Path("results/run", SMALL)
    assert set(pd.read_csv(folder / "distance.csv").method) == {"random", "edge"}


def test_a_protocol_that_raises_is_named_with_file_and_line(capsys):
    @protocols.register("crooked")
    @dataclass(frozen=True, kw_only=True)
    class Crooked(Perturbation):
        def perturbed(self, images, order, counts, seeds, normalisation):
            raise ValueError("no")

    run("method=[random]", "protocol=[distance]", "+protocol.crooked.name=crooked", code=2)
    error = capsys.readouterr().err
    says = rf"rapbench: protocol 'crooked': ValueError: no \({re.escape(__file__)}:\d+\)"
    assert re.search(says, error.splitlines()[-1])
    assert "Traceback" not in error


def test_leftovers_of_a_killed_run_go_with_the_next(tmp_path):
    folder = Path("results/run", SMALL)
    folder.mkdir(parents=True)
    left = [folder / f".{name}.ab1_x9zz" for name in ("table1.csv", "report.html", "results.parquet", "curves.png")]
    others = [
        folder / name for name in (".notes", ".my.settings", "table1.csv.ab1_x9zz", ".table1.csv.longer_than_that")
    ]
    for path in [*left, *others]:
        path.write_bytes(b"x")
    being = left.pop()
    with being.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another process does that is writing it now
        run("method=[random]", "protocol=[distance]")
        assert being.exists()
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in others)
    run("method=[random]", "protocol=[distance]")  # which has nothing to write
    assert not being.exists()


def inodes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_file()}


def contents(folder: Path) -> dict[str, bytes]:
    skipped = ("provenance.json", "report.html", RECORD)  # tell when the run was
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name not in skipped}


def test_a_finished_run_writes_nothing_anew(capsys):
    folder = run("method=[random,edge]")
    text = capsys.readouterr().out
    before, whole = inodes(folder), contents(folder)
    started = time.process_time()
    run("method=[random,edge]")
    assert time.process_time() - started < 3
    assert inodes(folder) == before
    assert capsys.readouterr().out == text
    (folder / "curves.png").unlink()
    run("method=[random,edge]")
    assert contents(folder) == whole


DAMAGE = {
    "a table was edited": lambda folder: (folder / "distance.csv").write_text("a,b\n"),
    "a page was cut": lambda folder: (folder / "report.html").write_bytes((folder / "report.html").read_bytes()[:-9]),
    "the results were cut": lambda folder: (folder / "results.parquet").write_bytes(b""),
    "no provenance": lambda folder: (folder / "provenance.json").unlink(),
    "the gallery is another's": lambda folder: (folder / FILE).write_bytes(b"x"),
    "the record is broken": lambda folder: (folder / RECORD).write_text("[]"),
    "the record is gone": lambda folder: (folder / RECORD).unlink(),
    "the record is a pipe": lambda folder: ((folder / RECORD).unlink(), os.mkfifo(folder / RECORD)),
    "a figure is a pipe": lambda folder: ((folder / "distance.png").unlink(), os.mkfifo(folder / "distance.png")),
    "a file of other protocols": lambda folder: (folder / "aopc.csv").write_text("a\n"),
}


@pytest.mark.slow
def test_what_is_missing_or_damaged_in_a_finished_runs_folder_is_made_again():
    wanted = ("method=[random]", "protocol=[distance]")
    folder = run(*wanted)
    whole = contents(folder)
    for kind, damage in DAMAGE.items():
        damage(folder)
        run(*wanted)
        assert contents(folder) == whole, kind
    page = (folder / "report.html").read_bytes()
    run(*wanted, "gallery=1")  # other settings, the same numbers
    assert (folder / "report.html").read_bytes() != page
    assert json.loads((folder / "provenance.json").read_text())["config"]["gallery"] == 1


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_out_of_memory_while_the_subset_is_chosen_takes_fewer_images_at_once(lite, monkeypatch, capsys, error):
    sizes = []

    def forward(self, x):
        sizes.append(len(x))
        if len(x) > most:
            raise error
        return whole(self, x)

    whole = type(lite.network).forward
    monkeypatch.setattr(type(lite.network), "forward", forward)
    most = 5
    folder = run("method=[random]", "protocol=[distance]", model=REAL)
    assert sizes[:4] == [1, 16, 8, 4]  # one image, to see that the network answers with logits
    said = capsys.readouterr().err
    assert (
        said.count("Out of memory with 16 images in one pass, to choose the subset; going on with smaller ones.") == 1
    )
    assert len(pd.read_csv(folder / "manifest.csv")) == 4
    most = 0
    run("method=[random]", "protocol=[distance]", "results=none", model=REAL, code=2)
    assert capsys.readouterr().err.splitlines()[-1].startswith("rapbench: memory runs out")


@pytest.mark.parametrize(("error", "says"), [
    (MemoryError(), "memory runs out .MemoryError."),
    (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
    (RuntimeError("can't start new thread"), "no more threads or processes can start"),
])  # fmt: skip
@pytest.mark.parametrize("multirun", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_what_runs_out_while_the_report_is_written_is_one_line(monkeypatch, capsys, error, says, multirun):
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(plots, "distance_curves", failing)
    run("method=[random]", "protocol=[distance]", *(["-m", "seed=0,1"] if multirun else []), code=2)
    error_lines = capsys.readouterr().err
    assert re.search(says, error_lines.splitlines()[-1])
    assert "Traceback" not in error_lines


@pytest.mark.slow
@pytest.mark.parametrize("most", [8, 12])
def test_few_open_files_are_one_line(most):
    command = [
        sys.executable,
        "-m",
        "rapbench.app.cli",
        "run",
        "model=efficientnet_lite0",
        "subset.n=2",
        "protocol=[distance]",
    ]
    limit = (most, most)
    done = subprocess.run(
        command, capture_output=True, text=True, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    )
    assert done.returncode in (0, 2)
    assert "Traceback" not in done.stderr
    if done.returncode:
        assert done.stderr.splitlines()[-1].startswith(f"rapbench: too many open files: {most} are allowed")


def test_another_chunk_size_moves_no_random_draw():
    frames = [of_images(run("method=[random]", f"results=chunk{size}", chunk=size).parents[2]
              / f"chunk{size}/run" / SMALL) for size in (1, 3)]  # fmt: skip
    assert (frames[0].drop(columns="logit") == frames[1].drop(columns="logit")).all(axis=None)
    assert (frames[0].logit - frames[1].logit).abs().max() < 1e-3


def test_bf16_moves_logits_a_little_and_says_so(capsys):
    frames = [of_images(run("method=[random]", "protocol=[removal]", f"precision={p}"))
              for p in ("fp32", "bf16")]  # fmt: skip
    apart = (frames[0].logit - frames[1].logit).abs()
    assert 0 < apart.max() < 1
    assert "classified in bf16" in capsys.readouterr().out


@pytest.mark.parametrize(("precision", "cells"), [("fp32", 1), ("bf16", 2)])
def test_a_unit_for_bf16_is_a_kind_of_machine_only_where_it_computes(precision, cells, monkeypatch):
    wanted = ("method=[random]", "protocol=[removal]", f"precision={precision}")
    for unit in ("amx_bf16", "avx512_bf16"):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda unit=unit: {unit: True})
        run(*wanted)
    assert len(list(Path("results/store/cells").glob("*/*.parquet"))) == cells


def test_a_manifest_is_used_as_it_is(capsys):
    folder = run("method=[random]", "protocol=[distance]")
    rows = (folder / "manifest.csv").read_text().splitlines()
    Path("mine.csv").write_text("\n".join([rows[0], rows[3], rows[1]]) + "\n")
    folder = run("method=[random]", "protocol=[distance]", "subset.manifest=mine.csv", "subset.n=1")
    distances = of_distances(folder)
    assert list(distances.image.unique()) == [rows[3].split(",")[0], rows[1].split(",")[0]]
    assert "2 of the 20 embedded ImageNet images (package foolbox): those of mine.csv." in capsys.readouterr().out
    Path("mine.csv").write_text("\n".join([rows[0], rows[3].replace(".jpg", ".png")]) + "\n")
    run("method=[random]", "subset.manifest=mine.csv", code=2)
    assert "named by the manifest, cannot be read" in capsys.readouterr().err


def test_a_multirun_is_one_job_a_combination():
    assert main(["run", "-m", "model=efficientnet_lite0", "method=random,sensitivity", "subset.n=2",
                 "protocol=[distance]"]) == 0  # fmt: skip
    found = sorted(path.parent.name for path in Path("results/run/sweep").glob("*/results.parquet"))
    assert len(found) == 2
    assert "random" in found[0]
    assert "sensitivity" in found[1]


def test_report_writes_the_tables_again(capsys):
    folder = run("method=[sensitivity]", "paper=on")
    names = ("table1.csv", "table1.md", "table1.tex", "distance.csv", "tests.csv", "verdict.csv", "paper.csv",
             "intervals.md", "intervals.tex", "report.html")  # fmt: skip
    before = {name: (folder / name).read_bytes() for name in names}
    for name in before:
        (folder / name).unlink()
    assert main(["report", str(folder)]) == 0
    assert {name: (folder / name).read_bytes() for name in names} == before
    for name in before:
        (folder / name).unlink()
    capsys.readouterr()
    assert main(["report", str(folder.parent)]) == 0  # every run below
    assert f"Written to {folder}/" in capsys.readouterr().out
    assert {name: (folder / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(("arguments", "says"), [
    (["nowhere"], "nowhere holds no results.parquet; name the folder that.*"),
    ([], "report takes one folder, that of a run or one with several below it; given: none"),
    (["one", "two"], "report takes one folder, that of a run or one with several below it; given: one two"),
    (["broken"], "broken/results.parquet cannot be read .*; the same run writes it again from the store"),
    (["unsaid"], "unsaid/provenance.json cannot be read .*; the same run writes it again"),
])  # fmt: skip
def test_what_cannot_be_reported_on_is_said_in_one_line(arguments, says, capsys):
    for name, file in (("broken", "results.parquet"), ("unsaid", "provenance.json")):
        Path(name).mkdir()
        Path(name, file).write_text("nonsense")
    pd.DataFrame({"image": []}).to_parquet("unsaid/results.parquet")
    assert main(["report", *arguments]) == 2
    assert re.fullmatch(rf"rapbench: {says}\n", capsys.readouterr().err)


@pytest.mark.parametrize(("overrides", "says"), [
    (["model=resnet51"], "unknown model 'resnet51' .did you mean 'resnet50'.*known: checkpoint, efficientnet_lite0, "),
    (["model=timm/resnet501"], "unknown model 'timm/resnet501' .did you mean 'timm/resnet50'"),
    (["model=resnet50", "model.weights=V7"], "torchvision's resnet50 has no weights 'V7'; known: IMAGENET1K_V1, "),
    (["model=checkpoint"], "needs model.architecture=NAME and model.path=FILE"),
    (["subset.require=[resnet51]"], "unknown model 'resnet51'"),
    (["subset.require=[3]"], "subset.require must list models, by name or as mappings with a name, got 3"),
    (["method=[rap,rapp]"], "unknown method 'rapp'; known: .*rap, "),
    (["protocol=remove"], "unknown protocol 'remove'; known: abpc, complexity, deletion, distance"),
    (["+method.mine.name=mine"], "unknown method 'mine'.*known: .*rap"),
    (["modle=vgg16"], "there is no setting 'modle' .did you mean 'model'.*the settings: name, model, "),
    (["+modle=vgg16"], "there is no setting 'modle' .did you mean 'model'"),
    (["+subset.sed=1"], "there is no setting 'subset.sed' .did you mean 'seed'.*of subset: n, seed, manifest, require"),
    (["+k.postive=[0]", "protocol=[distance]"], "there is no setting 'k.postive' .did you mean 'positive'"),
    (["~seed"], "a run needs the setting 'seed'; do not remove it"),
    (["~subset.n"], "does not support deletion"),
    (["experimnt=table1"], "there is no setting 'experimnt' .did you mean 'experiment'"),
    (["method.nosuch.flow=up"], "no setting 'method.nosuch.flow' of the chosen method; 'rapbench list methods NAME'"),
    (["subset.m=5"], "there is no setting 'subset.m'; the settings of subset: n, seed, "),
    (["subset.n=many"], "Error merging override subset.n=many .Value 'many' of type 'str' could not be conv"),
    (["heatmaps=float8"], "heatmaps=float8 .Invalid value 'float8', expected one of .float32, float16"),
    (["k.postive=[0]"], "there is no setting 'k.postive' .did you mean 'positive'"),
    (["method.rap.flwo=up"], "no setting 'method.rap.flwo' .did you mean 'flow'.*; the options of rap: flow, "),
    (["protocol.removal.fill=black"], "option fill='black': Input should be 'image_min', 'channel_min'"),
    (["subset.n=0"], "must be at least 1"),
    (["batch=0"], "must be at least 1"),
    (["gallery=-1"], "gallery must be at least 0, got -1"),
    (["precision=fp8"], "fp8"),
    (["method.rap.flow=up"], "option flow='up': Input should be 'both', 'normal' or"),
    (["k.positive=[0,500,250]"], "k.positive must ascend"),
    (["device=gpu"], "device 'gpu' cannot be used here"),
    (["method=[]"], "nothing to run"),
    (["data=imagenet"], "needs data.root"),
    (["data=imagenet", "data.root=/nowhere/at/all"], "/nowhere/at/all is not a folder"),
    (["data=samples", "data.root=/tmp"], "no setting 'data.root' of the chosen data; 'rapbench list data NAME'"),
    (["data=samples", "+data.root=/tmp"], "has no option 'root'"),
    (["subset.manifest=none.csv"], "none.csv is not a file"),
    (["seed=[1"], "no viable alternative at input"),
])  # fmt: skip
def test_bad_input_is_one_line_and_exit_code_2(overrides, says, capsys):
    assert main(["run", "model=efficientnet_lite0", "subset.n=2", *overrides]) == 2
    error = capsys.readouterr().err
    *before, last = error.splitlines()
    assert last.startswith("rapbench: ")
    assert re.search(says, last)
    assert not [line for line in before if not line.endswith("loading libraries and weights ...")]


def test_list_names_everything_without_torch():
    code = "import sys; from rapbench.app.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in [*rapbench.list_models(), *rapbench.list_methods(), *rapbench.list_protocols()]:
        assert f"  {name} " in done.stdout


def chunks() -> list[Path]:
    return list(Path("results").rglob("*.parts/0*.parquet"))


@pytest.mark.slow
def test_a_killed_process_loses_at_most_its_chunk():
    command = [
        sys.executable,
        "-m",
        "rapbench.app.cli",
        "run",
        "model=efficientnet_lite0",
        "chunk=2",
        "method=[rap]",
        *KS,
    ]
    whole = subprocess.run([*command, "results=whole"], capture_output=True, text=True)
    assert whole.returncode == 0, whole.stderr
    for attempt in range(4):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline, before = time.monotonic() + 120, len(list(Path("results").rglob("*.parts/0*.parquet")))
        while (
            len(list(Path("results").rglob("*.parts/0*.parquet"))) <= before + attempt and time.monotonic() < deadline
        ):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert len(list(Path("results").rglob("*.parts/0*.parquet"))) > before
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name in ("results.parquet", "table1.csv"):
        one, other = (Path(results, "run/efficientnet_lite0", name) for results in ("whole", "results"))
        assert one.read_bytes() == other.read_bytes()


def test_the_gallery_is_kept_as_chunks_are_computed(counted, capsys):
    calls, failing = counted
    wanted = ["method=[random]", "+method.counted.name=counted", "gallery=3", "protocol=[distance]"]
    failing[2] = KeyboardInterrupt()  # in the second chunk
    run(*wanted, code=130)
    kept = {path.parent.name for path in Path("results/store/gallery").glob("*/00000-*.safetensors")}
    assert len(kept) == 2
    folder = run(*wanted)
    assert calls == [2, 2, 2]
    sizes = [load_file(path)["values"].shape[0] for path in sorted(Path("results/store/gallery").glob("*/*"))]
    assert sizes == [2, 1, 2, 1]  # no more than is shown
    gallery = load_gallery(folder)
    assert (list(gallery.maps), gallery.images.shape) == (["random", "counted"], (3, *SPACE, 3))
    manifest = pd.read_csv(folder / "manifest.csv")
    assert gallery.files == manifest.file.tolist()[:3]
    assert gallery.labels == manifest.label.tolist()[:3]
    before = (folder / FILE).read_bytes()
    (folder / FILE).unlink()
    run(*wanted)  # from the store
    assert calls == [2, 2, 2]
    assert (folder / FILE).read_bytes() == before
    (folder / FILE).write_bytes(b"broken")
    run(*wanted)
    assert (folder / FILE).read_bytes() == before
    run(*wanted, "gallery=2")  # as many as are shown are kept: these are computed again
    assert calls == [2, 2, 2, 2]
    assert load_gallery(folder).images.shape[0] == 2
    assert "store is sound" in (main(["store", "verify"]) or capsys.readouterr().out)


def test_the_gallery_shows_what_the_network_sees_and_each_methods_heatmap():
    from PIL import Image

    from rapbench.data.samples import samples

    folder = run("method=[rap,edge]", "protocol=[distance]", "gallery=3", model=REAL)
    gallery, model = load_gallery(folder), rapbench.load_model("efficientnet_lite0")
    assert gallery.classes[0] == "tench"
    for place, (file, label) in enumerate(zip(gallery.files, gallery.labels, strict=True)):
        x = model.transform(Image.open(samples().root / file))[None]
        pixels = torch.tensor(gallery.images[place] / 255, dtype=torch.float32).permute(2, 0, 1)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (model.transform.mean, model.transform.std))
        assert ((255 * pixels - mean) / std - x[0]).abs().max() < 0.5 / std.min() + 1e-3  # half a step of 255
        for method in ("rap", "edge"):
            heat = rapbench.attribute(model, x, [label], method)[0].sum(0)
            shown = torch.tensor(gallery.maps[method][place], dtype=torch.float32) / 127
            scale = heat.abs().flatten().quantile(0.995)
            assert ((heat / scale).clamp(-1, 1) - shown).abs().max() < 0.02


def test_shards_write_the_gallery_of_one_run():
    wanted = ["method=[random]", "protocol=[distance]", "gallery=4"]
    whole = (run(*wanted, "results=whole").parents[2] / "whole/run" / SMALL / FILE).read_bytes()
    for shard in ("1/2", "2/2"):
        folder = run(*wanted, f"shard={shard}")
    assert (folder / FILE).read_bytes() == whole


def test_no_gallery_is_wanted():
    folder = run("method=[random]", "protocol=[distance]")
    assert (folder / FILE).exists()
    run("method=[random]", "protocol=[distance]", "gallery=0")
    assert not (folder / FILE).exists()
    assert "Gallery" not in (folder / "report.html").read_text()


def test_kept_heatmaps_serve_the_gallery_too(counted):
    calls, _ = counted
    run("method=[]", "+method.counted.name=counted", "protocol=[distance]", "heatmaps=float32", "gallery=0")
    folder = run("method=[]", "+method.counted.name=counted", "protocol=[distance]", "heatmaps=float32", "gallery=3")
    assert calls == [2, 2]
    assert load_gallery(folder).maps["counted"].shape == (3, *SPACE)
