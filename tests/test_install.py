"""What is committed and what is installed: no registry addresses, and a wheel that carries its configs."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-setup.txt"])
def test_the_lock_pins_with_hashes_and_names_no_registry(name):
    lines = (ROOT / name).read_text().splitlines()
    pins = [line for line in lines if re.match(r"[a-z]", line)]
    assert pins
    assert all(re.match(r"[a-z0-9.-]+==\S+( ; .+)? \\$", line) for line in pins)
    assert sum("--hash=sha256:" in line for line in lines) >= len(pins)
    assert not [line for line in lines if "://" in line]


def test_the_lock_has_both_branches_of_zennit():
    text = (ROOT / "requirements.txt").read_text()
    assert "zennit==0.5.1 ; python_full_version < '3.11.11'" in text
    assert "zennit==1.0.0 ; python_full_version >= '3.11.11'" in text


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the installed wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*install, str(folder / "site"), str(wheel)], check=True)
    return folder / "site"


def rapbench(site: Path, home: Path, *words: str) -> str:
    """Return what a command of the installed package prints, in a folder outside the checkout."""
    code = (
        "import sys, rapbench; from rapbench.app.cli import main; print(rapbench.__file__, file=sys.stderr)\n"
        "sys.exit(main())"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=home, env=os.environ | {"PYTHONPATH": str(site)},
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith(str(site))
    return done.stdout


FEW = ["model=efficientnet_lite0", "subset.n=2", "k.positive=[0,250]", "k.negative=[0,250]"]


@pytest.mark.slow
def test_a_wheel_runs_without_the_checkout(site, tmp_path):
    said = rapbench(site, tmp_path, "run", *FEW, "method=[random]", "protocol=[removal]")
    assert "paper (VGG-16)" not in said  # the paper has no random
    assert (tmp_path / "results/run/efficientnet_lite0/table1.md").exists()


@pytest.mark.slow
def test_a_wheel_draws_the_figures_without_the_checkout(site, tmp_path):
    rapbench(site, tmp_path, "figure", "heatmaps", *FEW, "method=[random]")
    assert (tmp_path / "results/heatmaps/efficientnet_lite0/heatmaps-1.pdf").exists()
    words = ["method=[rap,gradient_x_input]", "--positive", "250", "--negative", "250", "--images", "1"]
    rapbench(site, tmp_path, "figure", "figure7", *FEW, *words)
    folder = tmp_path / "results/figure7/efficientnet_lite0"
    drawn = (folder / "figure7a-1.png").read_bytes()
    (folder / "figure7a-1.png").unlink()
    rapbench(site, tmp_path, "figure", "figure7", str(folder), *words[1:])
    assert (folder / "figure7a-1.png").read_bytes() == drawn
    rapbench(site, tmp_path, "figure", "aopc", *FEW[:2], "method=[random]", "protocol.regions.steps=2")
    assert (tmp_path / "results/aopc/efficientnet_lite0/aopc.csv").exists()


@pytest.mark.slow
def test_a_wheel_checks_its_own_baseline_without_the_checkout(site, tmp_path):
    assert "No drift" in rapbench(site, tmp_path, "drift", "check", "efficientnet_lite0")


@pytest.mark.parametrize("name", ["configs", "baselines/published", "baselines/drift"])
def test_the_wheel_is_told_to_carry_what_the_package_reads(name):
    included = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert included["force-include"][name] == f"rapbench/{name}"
