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
    assert {part: len(parts[part]) for part in PACKAGES} == {part: len(PACKAGES[part]) for part in PACKAGES}


# By what is asked for: the part that is needed.
NEEDS = {
    "results.plot()": "report",
    "results.report('out')": "report",
    "results.save('out')": "report",
    "results.compare()": "report",
    "results.verdict()": "report",
    "results.informative()": "report",
    "rapbench.load_model('efficientnet_lite0')": "samples",
    "rapbench.load_data('samples')": "samples",
    "rapbench.load_data('luna16')": "luna16",
    "rapbench.load_data('nodule_phantoms')": "luna16",
    "rapbench.load_model('vgg16_keras', path=torch.__file__)": "keras",
}
ASKED = f"""
for call in {list(NEEDS)!r}:
    try:
        eval(call)
    except rapbench.RapbenchError as error:
        print(error)
"""


def test_a_module_in_memory_is_evaluated_and_what_needs_a_part_says_which(tmp_path):
    told = (
        "assert len(results.frame) and len(results.table()) and len(results.ranks()) and results._repr_html_()\n"
        "assert len(results.metric_agreement())\nresults.concordance()"
    )
    done = python(f"{IN_MEMORY}\n{told}\n{ASKED}", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(NEEDS)
    for line, part in zip(lines, NEEDS.values(), strict=True):
        assert re.fullmatch(rf".* needs \w+, which is not installed: pip install 'rapbench\[{part}\]'", line)
    assert not list(tmp_path.iterdir())


def test_a_command_that_needs_a_part_ends_in_one_line(tmp_path):
    commands = [["run", "model=efficientnet_lite0", "method=[random]"], ["report", "results"], ["compare", "a", "b"]]
    ask = f"from rapbench.app.cli import main\nassert [main(words) for words in {commands!r}] == [2, 2, 2]"
    done = python(ask, tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("rapbench: ")]
    assert len(lines) == len(commands)
    for line in lines:
        assert re.fullmatch(r"rapbench: .* needs \w+, which is not installed: pip install 'rapbench\[report\]'", line)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [["list"], ["list", "methods", "rap"], ["run", "--help"], ["list", "models"]])
def test_help_and_lists_need_none_of_them(words, tmp_path):
    done = python(f"from rapbench.app.cli import main\nsys.exit(main({words!r}))", tmp_path)
    assert done.returncode == 0, done.stderr
