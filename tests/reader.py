"""A reader of the documentation: understands every command, and follows those that can be followed on any machine."""

import io
import re
import shlex
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from unittest.mock import patch

import torch
import torchvision
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image

import rapbench.app.config  # noqa: F401  registers the schema and the sources that compose needs
from rapbench.app import cli, job_folders
from rapbench.app.choices import checked
from rapbench.app.training_values import check_training
from rapbench.core.paths import resource
from rapbench.data.samples import samples
from tests.conftest import lay_out_imagenet
from tests.pages import ROOT

sys.path.insert(0, str(ROOT / "experiments"))  # where Python looks when it runs one of them
import _make

# Nobody waits for 500 images: what a page leaves open in a run is small here.
SMALL = {"subset.n": "2", "method": "[random]", "protocol": "[removal]", "k.positive": "[0,50]", "k.negative": "[0,50]"}
ANSWER = 22  # the class that the user's checkpoint sees in everything; one of the embedded images shows it

# Not followed, only understood, and why.
NOT_FOLLOWED = {
    "launch=slurm": "takes a cluster: tests/cluster brings one up",
    "vgg16_keras": "a download of 550 MB: tests/test_keras.py reads such files",
    "--model vgg16": "a download of 530 MB; the page on models of your own has the same for a checkpoint",
    "make setup": "is what this runs in",
    "make test": "is what runs this",
    "make test-slow": "is what runs this",
    "make test-cluster": "takes a cluster's daemons",
    "make lint": "`make test` runs it, too",
    "make docs": "tests/test_site.py builds the site",
    "make benchmark": "measures for half an hour",
    "experiment=all_metrics": "five minutes; tests/test_metric_runs.py runs it on a small network",
    "drift check": "a minute; tests/test_drift_bites.py does it",
    "drift freeze": "five minutes; tests/test_drift_bites.py freezes baselines likewise",
    "make reproduce-luna16": "nine minutes; tests/test_make.py composes its commands",
    "rapbench train": "minutes; tests/test_train_command.py trains",
    "figure figure8": "takes a trained fold; tests/test_figures.py draws it",
    "make check-drift": "a minute; the workflow runs it, and tests/test_drift_bites.py does the same",
    "make freeze-drift": "five minutes; tests/test_drift_bites.py freezes baselines likewise",
}


def words_of(command: str) -> list[str]:
    """Return a command's words without the variables before it; `eval "$(command)"` is the command inside."""
    words = shlex.split(command)
    if words[0] == "eval":
        words = shlex.split(words[1].removeprefix("$(").removesuffix(")"))
    while re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words = words[1:]
    return [words[0].removeprefix(".venv/bin/"), *words[1:]]


def why_not(command: str) -> str | None:
    """Return why a command is not followed, or None."""
    words = words_of(command)
    known = [*(" ".join(pair) for pair in pairwise(words)), *words, *(word.partition("model=")[2] for word in words)]
    known += [word.removeprefix("MODEL=") for word in words]
    return next((NOT_FOLLOWED[name] for name in known if name in NOT_FOLLOWED), None)


def made(words: list[str]) -> list[str]:
    """Return what make runs at last for `make ...`, with the words that the program takes from the settings.

    Each setting must be one that the Makefile has.
    """
    known = re.findall(r"^([A-Z][A-Z0-9]*) \?=", (ROOT / "Makefile").read_text(), re.M)
    for word in words[2:]:
        assert word.partition("=")[0] in known, f"the Makefile has no setting {word}"
    shown = [words[0], "-n", "--no-print-directory", *words[1:]]
    done = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program = shlex.split(done.stdout.strip().splitlines()[-1])
    if program[1:2] == ["experiments/table1.py"]:
        return [*program, *_make.overrides(environment(words))]
    if program[1:2] == ["experiments/drift.py"]:
        return [*program, *_make.drift(program[2], environment(words))]
    return program


def environment(words: list[str]) -> dict[str, str]:
    """Return what make hands to the program of its target: the recipe is run, by a Python that prints it."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder, "python")
        python.write_text("#!/bin/sh\nenv -0\n")
        python.chmod(0o755)
        command = [words[0], "-s", f"BIN={folder}", "-o", "setup", "-o", ".venv/.luna16", *words[1:]]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    return dict(line.split("=", 1) for line in shown.split("\0") if "=" in line)


def overrides(words: list[str]) -> list[str] | None:
    """Return the Hydra overrides of a command that runs, or None for another."""
    if words[0] == "make":
        words = ["python", *made(words)[1:]]
    match words:
        case ["python", "experiments/table1.py", *given]:
            return ["experiment=table1", *given]
        case ["python", "experiments/drift.py", "freeze", _, *given] | ["rapbench", "drift", "freeze", _, *given]:
            return given
        case ["rapbench", "figure", name, *given] if all("=" in word for word in given if word not in drawing(given)):
            return [f"experiment={name}", *(word for word in given if word not in drawing(given))]
        case ["rapbench", "run", *given]:
            return given
    return None


def drawing(words: list[str]) -> list[str]:
    """Return the words after a figure's name that are not Hydra's: options for drawing, with their values."""
    flags = [place for place, word in enumerate(words) if word.startswith("--")]
    values = [place + 1 for place in flags if words[place + 1 :] and not re.search("^--|=", words[place + 1])]
    return [words[place] for place in sorted(flags + values)]


def understand(command: str) -> None:
    """Hold a command to what there is: programs, settings, options, configurations with all their values."""
    words = words_of(command)
    given = overrides(words)
    if given is not None:
        several = ["-m"] if words[1] == "figure" else []  # which takes models with commas between them
        for job in jobs([*several, *given]):
            # A manifest is written by a command before this one.
            with (
                initialize_config_dir(str(resource("configs")), version_base="1.3"),
                patch("rapbench.app.values.load_manifest"),
            ):
                checked(compose("run", [*job, "output=anywhere"]))
        if words[:2] == ["rapbench", "run"]:
            return
    match words:
        case ["make", *_]:
            made(words)
        case ["rapbench", "-sc", "install=bash"]:
            pass
        case ["rapbench", "train", *given] if "--help" not in given:
            for job in jobs(given, "train"):
                with initialize_config_dir(str(resource("configs")), version_base="1.3"):
                    check_training(compose("train", job))
        case ["rapbench", "figure", *_]:
            with (
                patch("rapbench.app.figure_command._runs", return_value=[]),
                patch("rapbench.app.figure_command._finished", return_value=[]),
                patch("rapbench.app.figure_command.run_hydra", return_value=""),
                patch("rapbench.app.draw_figures.draw_heatmaps", return_value=""),
            ):
                assert cli.main(words[1:]) == 0
        case ["rapbench", "drift", ("check" | "freeze") as verb, *_]:
            with patch(f"rapbench.app.drift_runs.{verb}", return_value=""):
                assert cli.main(words[1:]) == 0
        case ["rapbench", verb, *_]:
            with patch.dict(cli.COMMANDS, {verb: lambda **options: ""}):
                assert cli.main(words[1:]) == 0
        case ["python", "-m", module]:
            assert (ROOT / f"{module.replace('.', '/')}.py").is_file()
        case ["python", file]:
            assert (ROOT / file).is_file()
        case ["pip", "install", what]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            assert what.removeprefix("rapbench[").removesuffix("]") in extras
        case _:
            raise AssertionError(f"nobody knows how to run {command!r}")


def jobs(given: list[str], command: str = "run") -> Iterator[list[str]]:
    """Yield the overrides of each job, without launchers: those that are not installed have no configuration."""
    flags = ("-m", "--multirun")
    plain = [
        word for word in given if word not in flags and not re.match(r"launch=|hydra\.launcher\.|--cfg$|-p$", word)
    ]
    plain = [word for word in plain if word not in ("hydra", "hydra.launcher")]
    if not set(flags) & set(given):
        yield plain
        return
    parsed = OverridesParser.create().parse_overrides(job_folders.for_some(plain))
    with initialize_config_dir(str(resource("configs")), version_base="1.3"):
        config = compose(command, return_hydra_config=True)
        found = job_folders.split(parsed, config, GlobalHydra.instance().config_loader())
    yield from found


def follow(command: str, home: Path, quick: bool = False) -> None:
    """Run a command in a reader's home, where /path/to is; a run is small where the page does not say.

    quick: Table I's methods and its model, where they are not said, are replaced too.
    """
    words = words_of(command.replace("/path/to", str(home)))
    given = overrides(words)
    if given is not None:
        named = {word.partition("=")[0] for word in given}
        experiment = next((word for word in given if word.startswith("experiment=")), None)
        small = dict(SMALL)
        if experiment:  # has protocols of its own
            small.pop("protocol")
        if experiment == "experiment=figure7":  # draws RAP's masks at its own K
            small |= {"method": "[rap,gradient_x_input]", "k.positive": "", "k.negative": ""}
        if experiment == "experiment=table1":
            small |= {"model": "efficientnet_lite0", "protocol": "[removal]"} if quick else {"method": ""}
        small = {key: value for key, value in small.items() if value and key not in named}
        given += [f"{key}={value}" for key, value in small.items()]
        words = [*words[:3], *given[1:], *drawing(words[3:])] if words[1] == "figure" else ["rapbench", "run", *given]
    assert words[0] == "rapbench", command
    assert cli.main(words[1:]) == 0, command


def furnish(home: Path, text: str) -> None:
    """Write the files of a user's own that a text names."""
    make_photos(home / "photos", ["a.jpg", "holiday/b.jpg", "holiday/c.JPEG", "d.png"])
    make_photos(home / "training/images", [f"{number}.jpg" for number in range(4)])
    make_photos(home / "images", [f"class{label:02d}/x.jpg" for label in range(ANSWER + 1)])
    make_photos(home, ["dog.jpg"])
    lay_out_imagenet(home / "ILSVRC2012", 4)
    pack_boxes(home / "ILSVRC2012_bbox_val_v3.tgz", home / "ILSVRC2012")
    weights = {"mine.pth": ("resnet50", 1000), "mine-vgg.pth": ("vgg16", 1000), "ours.pth": ("resnet50", ANSWER + 1)}
    for name, (architecture, classes) in weights.items():
        if re.search(rf"\b{name}\b", text):
            torch.save(always(ANSWER, architecture, classes), home / name)


def always(answer: int, architecture: str, classes: int) -> dict[str, torch.Tensor]:
    """Return random weights of a network that sees one class in everything."""
    torch.manual_seed(0)
    state = torchvision.models.get_model(architecture, num_classes=classes).state_dict()
    state[next(reversed(state))][answer] = 1e3
    return state


def make_photos(folder: Path, names: list[str]) -> None:
    source = samples()
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read(source.samples[number % 20].file))


def pack_boxes(archive: Path, images: Path) -> None:
    """Write ImageNet's boxes of the images below a folder, one in the middle of each."""
    with tarfile.open(archive, "w:gz") as packed:
        for path in sorted(images.rglob("*.JPEG")):
            with Image.open(path) as image:
                width, height = image.size
            ends = {"xmin": width // 4, "ymin": height // 4, "xmax": 3 * width // 4, "ymax": 3 * height // 4}
            box = "".join(f"<{name}>{value}</{name}>" for name, value in ends.items())
            text = (f"<annotation><size><width>{width}</width><height>{height}</height></size>"
                    f"<object><bndbox>{box}</bndbox></object></annotation>").encode()  # fmt: skip
            member = tarfile.TarInfo(f"val/{path.stem}.xml")
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text))


def typeset(text: str, home: Path) -> None:
    """Let LaTeX make a document of a page's example."""
    (home / "paper.tex").write_text(text)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=home, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
