"""Every command of the page "Use your own model and data", word for word, on a user's files of those names."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import torch
import torchvision

from rapbench.cli import main
from rapbench.data.samples import samples
from rapbench.paths import cache_folder

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs/own-model-and-data.md").read_text()
COMMANDS = [line for block in re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
LARGE = [line for line in COMMANDS if re.search("resnet50_keras|vgg", line)]
ANSWER = 22  # the class that the user's model sees in everything; one of the embedded images shows it
FAST = ["subset.n=2", "method=[random]", "protocol=[distance]"]


def write_checkpoint(path: str, architecture: str) -> None:
    torch.manual_seed(0)
    network = torchvision.models.get_model(architecture)
    state = network.state_dict()
    state[next(reversed(state))][ANSWER] = 1e3
    torch.save(state, path)


def make_photos(folder: Path, names: list[str]) -> None:
    source = samples()
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(source.read(source.samples[number % 20].file))


def follow(command: str, home: Path) -> None:
    words = shlex.split(command.replace("/path/to", str(home)))
    if words[0] == "make":
        shown = [words[0], "-n", "--no-print-directory", *words[1:]]
        done = subprocess.run(shown, cwd=ROOT, capture_output=True, text=True, check=True)
        words = shlex.split(done.stdout.splitlines()[-1])
        assert words[:2] == [".venv/bin/python", "experiments/table1.py"]
        words[:2] = [".venv/bin/rapbench", "run", "experiment=table1"]
    assert words[0] == ".venv/bin/rapbench"
    assert main(words[1:] + (FAST if words[1] == "run" else [])) == 0


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    if (packages := cache_folder() / "npm").is_dir():
        (tmp_path / "cache/npm").symlink_to(packages)
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))
    make_photos(tmp_path / "photos", ["a.jpg", "holiday/b.jpg", "holiday/c.JPEG", "d.png"])
    return tmp_path


@pytest.mark.parametrize("command", [line for line in COMMANDS if line not in LARGE])
def test_a_command_does_what_the_page_says(command, home):
    write_checkpoint("mine.pth", "resnet50")
    make_photos(home / "images", [f"class{label:02d}/x.jpg" for label in range(ANSWER + 1)])
    follow(command, home)
    (folder,) = Path("results").glob("*/*/manifest.csv")
    rows = folder.read_text().splitlines()[1:]
    assert 1 <= len(rows) <= 2
    if "mine.pth" in command:
        assert all(row.split(",")[1] == str(ANSWER) for row in rows)


@pytest.mark.slow
def test_commands_with_large_models_do_what_the_page_says(home):
    write_checkpoint("mine-vgg.pth", "vgg16")
    assert len(LARGE) == 4
    for command in LARGE:
        follow(command, home)
    manifests = [Path(f"results/table1/{model}/manifest.csv") for model in ("resnet50_keras", "efficientnet_lite0")]
    one, other = ([line.split(",")[:3] for line in path.read_text().splitlines()] for path in manifests)
    assert one == other
