"""Every page of the documentation: its commands, examples and links, and an entry for whatever is registered."""

import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from markdown.extensions.toc import slugify

from rapbench.app.registries import REGISTRIES
from rapbench.core.paths import cache_folder, resource
from tests.pages import FENCE, PAGES, ROOT, Block, blocks, commands, section
from tests.reader import ANSWER, _make, follow, furnish, typeset, understand, why_not

LANGUAGES = {"", "python", "yaml", "latex", "text"}
QUICK = {"docs/index.md", "docs/adding-a-method.md"}
# What a reader has done before who turns to a page.
TABLE = "make reproduce-table1"
BASELINE = "rapbench drift results/table1/resnet50_keras --baseline baselines/drift/resnet50_keras.csv --update"
BEFORE = {"docs/drift.md": [TABLE, BASELINE], "docs/report.md": [TABLE], "README.md": []}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A folder of the reader's own, whose modules are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cache").mkdir()
    if (packages := cache_folder() / "npm").is_dir():
        (tmp_path / "cache/npm").symlink_to(packages)
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])  # as Python has it that is started here
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").is_relative_to(tmp_path):
            del sys.modules[name]


def save(block: Block, home: Path) -> None:
    (home / block.file).parent.mkdir(parents=True, exist_ok=True)
    (home / block.file).write_text(block.content)
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_understood(page, home):
    assert {block.language for block in blocks(page)} <= LANGUAGES
    for block in blocks(page):
        if block.file:
            save(block, home)
        if block.language == "yaml":
            assert yaml.safe_load(block.content)
        if block.language == "python":
            compile(block.content, page, "exec")
    for command in commands(page):
        understand(command)


def pages_to_follow() -> list:
    worth = [page for page in PAGES if any(block.language != "text" for block in blocks(page))]
    return [pytest.param(page, marks=[] if page in QUICK else pytest.mark.slow) for page in worth]


@pytest.mark.parametrize("page", pages_to_follow())
def test_a_page_is_followed_from_its_first_command_to_its_last(page, home):
    shutil.copytree(ROOT / "baselines", home / "baselines")
    furnish(home, PAGES[page] if page not in QUICK else "")
    for command in BEFORE.get(page, []):
        follow(command, home)
    namespace: dict = {}
    for block in blocks(page):
        if block.file:
            save(block, home)
        elif block.language == "python":
            exec(compile(block.content.replace("/path/to", str(home)), page, "exec"), namespace)
        elif block.language == "latex" and shutil.which("pdflatex"):
            typeset(block.content, home)
        for command in block.commands:
            if not why_not(command):
                follow(command, home, quick=page in QUICK)
    AFTER.get(page, lambda: None)()


def after_own_model() -> None:
    """The checkpoint's own class is the label; and two models' runs are on the same images."""
    for path in [*Path("results").glob("*/checkpoint/manifest.csv")]:
        rows = [row.split(",") for row in path.read_text().splitlines()[1:]]
        assert 1 <= len(rows) <= 2
        assert all(row[1] == str(ANSWER) for row in rows)
    manifests = [Path(f"results/table1/{model}/manifest.csv") for model in ("resnet50_keras", "efficientnet_lite0")]
    one, other = ([line.split(",")[:3] for line in path.read_text().splitlines()] for path in manifests)
    assert one == other


def after_adding() -> None:
    table = Path("results/mine/efficientnet_lite0/table1.csv").read_text()
    assert "positive,blurred,accuracy,removal,50," in table
    assert "| Gradient\\*Input, blurred" in Path("results/mine/efficientnet_lite0/table1.md").read_text()
    theirs = Path("results/theirs/efficientnet_lite0/table1.csv").read_text()
    assert "positive,their_maps,accuracy,removal,50," in theirs
    assert "negative,their_maps,accuracy,removal,50," in theirs


AFTER = {"docs/own-model-and-data.md": after_own_model, "docs/adding-a-method.md": after_adding}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    prose = FENCE.sub("", PAGES[page])
    for target in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", FENCE.sub("", file.read_text()), re.M)
            assert anchor in {slugify(re.sub(r"[`*]", "", heading), "-") for heading in headings}, target


ENTRIES = [(page, group, name)
           for page, group in {"docs/methods.md": "method", "docs/protocols.md": "protocol"}.items()
           for name in REGISTRIES[group]]  # fmt: skip


@pytest.mark.parametrize(("page", "group", "name"), ENTRIES)
def test_what_is_registered_has_its_entry_with_every_option_and_choice(page, group, name):
    text = section(page, name) + (section("docs/metrics.md", name) if group == "protocol" else "")
    assert text, f"{page} has neither a heading nor a row for `{name}`"
    stated = text + "".join(options(page, other) for other in re.findall(r"\bas `(\w+)`", options(page, name)))
    config = yaml.safe_load(resource("configs", group, f"{name}.yaml").read_text())
    for option, default in config.items():
        if option in ("name", "summary", "k"):
            continue
        shown = {"True": "true", "False": "false", "None": "null"}.get(str(default), default)
        shown = f"[{', '.join(map(str, default))}]" if isinstance(default, list) else shown
        assert f"`{option}`: {shown}" in stated
        for choice in choices(group, name, option):
            assert re.search(rf"\b{choice}\b", stated), choice
    if group == "method":
        assert "$$" in text
        for what in ("Source", "Through", "Options", "Deviation"):
            assert re.search(rf"^- \*\*{what}:\*\* \S", text, re.M), what
        named = set(re.findall(r"`(\w+)`: ", options(page, name)))
        shared = set().union(*(REGISTRIES[group][other].options for other in REGISTRIES[group]
                               if section(page, other) == text))  # fmt: skip
        assert named <= shared, "options that are no more"


def options(page: str, name: str) -> str:
    """Return what an entry says of its options; an entry may say `as another`, whose options are then its own."""
    found = re.search(r"^- \*\*Options:\*\* ((?:.|\n  )*)", section(page, name), re.M)
    return found[1] if found else ""


def choices(group: str, name: str, option: str) -> list[str]:
    annotation = REGISTRIES[group][name]._parameters()[option].annotation
    return [choice for choice in getattr(annotation, "__args__", ()) if isinstance(choice, str)]


@pytest.mark.slow
def test_the_new_method_becomes_a_part_of_rapbench_as_the_page_says(home):
    """In a copy of the checkout: its registry's tests take it in, and miss nothing but its documentation."""
    for name in ("rapbench", "configs", "tests", "docs", "baselines", "experiments"):
        shutil.copytree(ROOT / name, home / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "Makefile"):
        shutil.copy(ROOT / name, home)
    (code,) = [block for block in blocks("docs/adding-a-method.md") if block.file == "my_methods.py"]
    (config,) = [block for block in blocks("docs/adding-a-method.md") if block.language == "yaml"]
    (home / "rapbench/methods/blurred.py").write_text(code.content)
    save(config, home)
    tests = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "blurred or every_config"]
    done = subprocess.run([*tests, "tests/test_configs.py", "tests/test_methods.py"], cwd=home, capture_output=True)
    assert done.returncode == 0, done.stdout.decode()
    assert b"passed" in done.stdout
    done = subprocess.run([*tests, "tests/test_docs.py"], cwd=home, capture_output=True, text=True)
    assert done.returncode == 1
    assert "docs/methods.md has neither a heading nor a row for `blurred`" in done.stdout


def test_the_readme_lists_the_settings_of_reproduce_table1():
    listed = re.findall(r"^\| `([A-Z]+)=` \| `(?:data=imagenet )?([\w.]+=)", PAGES["README.md"], re.M)
    given = [(name, f"{setting}=") for name, setting in (_make.SETTINGS | _make.LISTS).items()]
    assert len(listed) == 8
    assert sorted(listed) == sorted(given)
