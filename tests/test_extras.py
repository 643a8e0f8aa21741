"""What works without the optional packages, and the one line where one is missing; in a process without them."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from rapbench.core.extras import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("keras", "report", "samples")
AT_HAND = ("matplotlib",)  # captum brings it along
GONE = {name for names in PACKAGES.values() for name in names if name not in AT_HAND}
WITHOUT = f"""
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {GONE}:
            return None
        return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Without, sys.meta_path)
"""
IN_MEMORY = """
import torch
import rapbench

torch.manual_seed(0)
network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 3))
results = rapbench.evaluate(network, torch.randn(4, 3, 8, 8), methods=["rap", "sensitivity", "random"])
"""


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, cwd=folder)


def test_each_part_has_its_packages_in_pyproject():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    parts = project["optional-dependencies"]
    assert parts["all"] == [f"rapbench[{','.join(PARTS)}]"]
    assert {part: len(parts[part]) for part in PARTS} == {part: len(PACKAGES[part]) for part in PARTS}


def test_a_module_in_memory_is_evaluated_without_any_of_them(tmp_path):
    done = python(f"{IN_MEMORY}\nassert len(results.frame) and len(results.table())\nresults._repr_html_()", tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("call", "part"), [
    ("results.plot()", "report"),
    ("results.report('out')", "report"),
    ("results.save('out')", "report"),
    ("results.compare()", "report"),
    ("results.verdict()", "report"),
    ("rapbench.load_model('efficientnet_lite0')", "samples"),
    ("rapbench.load_data('samples')", "samples"),
    ("rapbench.load_model('vgg16_keras', path=__import__('torch').__file__)", "keras"),
])  # fmt: skip
def test_what_needs_one_says_which_part_has_it(call, part, tmp_path):
    code = IN_MEMORY if call.startswith("results") else "import rapbench"
    done = python(f"{code}\ntry:\n    {call}\nexcept rapbench.RapbenchError as error:\n    print(error)", tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert done.stdout.endswith(f"which is not installed: pip install 'rapbench[{part}]'\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [
    ["run", "data=samples", "model=resnet50", "method=[random]"],
    ["run", "model=efficientnet_lite0", "method=[random]"],
    ["report", "results"],
    ["compare", "a", "b"],
])  # fmt: skip
def test_a_command_that_needs_one_ends_in_one_line(words, tmp_path):
    done = python(f"from rapbench.app.cli import main\nsys.exit(main({words!r}))", tmp_path)
    assert done.returncode == 2
    *notes, last = done.stderr.splitlines()
    assert re.fullmatch(r"rapbench: .* needs \w+, which is not installed: pip install 'rapbench\[\w+\]'", last)
    assert len(notes) < 2  # what is being loaded


@pytest.mark.parametrize("words", [["list"], ["list", "methods", "rap"], ["run", "--help"], ["list", "models"]])
def test_help_and_lists_need_none_of_them(words, tmp_path):
    done = python(f"from rapbench.app.cli import main\nsys.exit(main({words!r}))", tmp_path)
    assert done.returncode == 0, done.stderr
