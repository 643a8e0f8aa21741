"""What a contributor and a packager rely on: one version, pages whose links and commands are there, what is shipped."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import rapbench

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LOCK = dict(re.findall(r"^([\w-]+)==([^\s;]+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE))
BIN = Path(sys.executable).parent
PAGES = ["CONTRIBUTING.md", "CHANGELOG.md", ".github/pull_request_template.md"]


def test_there_is_one_version():
    version = PROJECT["version"]
    assert rapbench.__version__ == importlib.metadata.version("rapbench") == version
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    assert not [path for path in (ROOT / "rapbench").rglob("*.py") if f'"{version}"' in path.read_text()]


def test_the_changelog_has_what_is_to_come_first_and_then_each_release():
    titles = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert titles[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d", title) for title in titles[1:])


@pytest.mark.parametrize("page", PAGES)
def test_its_links_commands_and_paths_are_there(page):
    text = (ROOT / page).read_text()
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert target.startswith("https://") or (ROOT / target).exists(), target
    for target in re.findall(r"\bmake ([a-z][\w-]+)", " ".join(re.findall(r"`[^`]+`|^make .*$", text, re.MULTILINE))):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE), target
    for path in re.findall(r"`((?:rapbench|configs|tests)/[\w/.]*)`", text):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize(("file", "schema"), [("bug.yml", "forms"), ("request.yml", "forms"), ("config.yml", "config")])
def test_an_issue_template_follows_its_schema(file, schema):
    path = ROOT / ".github/ISSUE_TEMPLATE" / file
    command = [BIN / "check-jsonschema", "--builtin-schema", f"vendor.github-issue-{schema}", path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_hooks_run_the_locked_ruff():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    revisions = {repository["repo"].rpartition("/")[2]: repository.get("rev") for repository in hooks["repos"]}
    assert revisions["ruff-pre-commit"] == f"v{LOCK['ruff']}"
    assert re.fullmatch(r"v\d+\.\d+\.\d+", revisions["pre-commit-hooks"])


def test_another_build_of_torch_leaves_out_what_the_default_one_needs_and_nothing_else():
    """The filter that the Makefile hands to a shell, on the lock itself."""
    words = ["make", "-n", "-B", "setup", "TORCH=cpu"]
    recipe = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (script,) = re.findall(r"awk '.+?' requirements\.txt(?= >)", recipe)
    left = subprocess.run(script, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = dict(re.findall(r"^([\w-]+)==([^\s;]+)", left, re.MULTILINE))
    dropped = LOCK.keys() - kept.keys()
    assert {"torch", "torchvision", "triton"} <= dropped
    assert all(name.startswith(("nvidia-", "cuda-")) for name in dropped - {"torch", "torchvision", "triton"})
    (torch,) = re.findall(r"--torch-backend 'cpu'.*?\$\((awk .+? requirements\.txt)\)", recipe, re.DOTALL)
    pins = subprocess.run(torch, shell=True, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert pins == [f"{name}=={LOCK[name]}" for name in ("torch", "torchvision")]
    hashed = re.split(r"^(?=[a-z])", left, flags=re.MULTILINE)[1:]
    assert len(hashed) == len(re.findall(r"^[a-z]", left, re.MULTILINE))
    assert all("--hash=sha256:" in block for block in hashed)


def test_without_a_choice_of_torch_every_hash_is_checked():
    recipe = subprocess.run(["make", "-n", "-B", "setup"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "--require-hashes -r requirements.txt" in recipe
    assert "torch-backend" not in recipe


@pytest.mark.slow
def test_a_release_ships_types_configurations_and_licence(tmp_path):
    command = [
        BIN / "uv",
        "build",
        "-q",
        "--python",
        sys.executable,
        "--no-build-isolation",
        "--offline",
        "-o",
        tmp_path,
    ]
    subprocess.run(command, cwd=ROOT, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert (tmp_path / f"rapbench-{PROJECT['version']}.tar.gz").is_file()  # what the release's workflow looks for
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"rapbench/py.typed", "rapbench/configs/run.yaml"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
