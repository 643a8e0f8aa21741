"""What is committed and what is installed: no registry addresses, and a wheel that carries its configs."""

import os
import re
import subprocess
import sys
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


@pytest.mark.slow
def test_a_wheel_runs_without_the_checkout(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    site = tmp_path / "site"
    install = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "-q",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
        str(wheel),
    ]
    subprocess.run(install, check=True)
    run = [sys.executable, "-m", "rapbench.app.cli", "run", "model=efficientnet_lite0", "method=[random]", "subset.n=2",
           "protocol=[removal]", "k.positive=[0,250]", "k.negative=[0,250]"]  # fmt: skip
    done = subprocess.run(run, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "paper (VGG-16)" not in done.stdout  # the paper has no random
    assert (tmp_path / "results/run/efficientnet_lite0/table1.md").exists()
    where = subprocess.run([sys.executable, "-c", "import rapbench; print(rapbench.__file__)"], cwd=tmp_path,
                           env=os.environ | {"PYTHONPATH": str(site)}, capture_output=True, text=True)  # fmt: skip
    assert str(site) in where.stdout
