"""What the command line says of itself: every setting, option and choice, in words, without loading what computes."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import NonNegativeFloat, PositiveInt

from rapbench.app.cli import main
from rapbench.app.config import Number, RunConfig
from rapbench.app.config_comments import comments_of
from rapbench.app.figure_command import FIGURES
from rapbench.app.hydra_app import composed
from rapbench.app.listing import FAMILIES, KINDS, files_of
from rapbench.app.option_help import WIDTH, allowed, in_yaml
from rapbench.app.registries import REGISTRIES
from rapbench.app.run_help import run_help, settings
from rapbench.app.settings import PRESETS
from rapbench.app.values import LEAST, options_of
from rapbench.core.paths import resource
from tests.reader import understand

ENTRIES = [(kind, name) for kind, group in KINDS.items() for name in files_of(group)]
HEAVY = {"torch", "torchvision", "timm", "captum", "pandas", "pyarrow", "matplotlib", "scipy", "plotly"}


def said(words: list[str], capsys) -> str:
    assert main(words) == 0
    out = capsys.readouterr()
    assert not out.err
    return out.out


COMMANDS = [
    [],
    ["run"],
    ["list"],
    ["list", "methods"],
    ["drift"],
    ["drift", "check"],
    ["drift", "freeze"],
    ["figure"],
    *(["figure", name] for name in FIGURES),
    *(["list", kind, name] for kind, name in ENTRIES if kind != "models"),
]


def test_help_is_given_without_what_computes():
    """In a process of its own: of one that has loaded torch nothing can be told."""
    calls = [words if words[:1] == ["list"] else [*words, "--help"] for words in COMMANDS]
    code = (
        "import contextlib, io, sys; from rapbench.app.cli import main\n"
        f"for words in {calls!r}:\n"
        "    with contextlib.redirect_stdout(io.StringIO()) as said:\n"
        "        try: ended = main(words)\n"
        "        except SystemExit as exit: ended = exit.code or 0\n"
        f"    print(words, 'ends', ended, 'says', bool(said.getvalue()), 'loads', *({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"{words} ends 0 says True loads" for words in calls]


@pytest.mark.parametrize("group", [*REGISTRIES, *PRESETS])
def test_the_help_of_run_names_every_choice_of_a_group(group):
    section = run_help().partition("\ngroups")[2].partition("\nsettings")[0]
    below = re.search(rf"\n  {group} .*?(?=\n  \w|\n*\Z)", section, re.DOTALL)
    names = {word.strip() for word in " ".join(below[0].split()).replace(",", " ").split()}
    kind = next((kind for kind, of in KINDS.items() if of == group), "")
    wanted = {word for name in [*files_of(group), *FAMILIES.get(kind, {})] for word in name.split()}
    assert wanted <= names
    assert wanted


def test_the_help_of_run_names_every_setting_with_its_default_and_meaning():
    config = composed([])
    shown = {one.name: one for one in settings()}
    assert {name.partition(".")[0] for name in shown} == set(RunConfig.__dataclass_fields__) - REGISTRIES.keys()
    assert LEAST.keys() <= shown.keys()
    text = " ".join(run_help().split())
    for name, one in shown.items():
        assert one.meaning, name
        assert one.allowed, name
        assert " ".join(f"{name} = {one.default} {one.allowed} {one.meaning}".split()) in text
        if "<" not in one.default:
            value = config
            for part in name.split("."):
                value = value[part]
            value = getattr(value, "name", value)
            assert yaml.safe_load(one.default) == value


@pytest.mark.parametrize("word", ["-h", "--help"])
def test_the_help_of_run_is_asked_for_anywhere(word, capsys):
    text = said(["run", word], capsys)
    assert said(["run", "seed=3", word], capsys) == text
    assert max(map(len, text.splitlines())) <= WIDTH


EXAMPLES = re.findall(r"^  rapbench run (.+?)(?:   |$)", run_help().partition("groups")[0], re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_of_the_help_are_understood(example, capsys):
    words = shlex.split(example)
    if "-m" in words:  # its first job
        words = [re.sub(r"^(\w+=\w+),.*", r"\1", word) for word in words if word != "-m"]
    assert yaml.safe_load(said(["run", *words, "--cfg", "job"], capsys))["model"]
    assert len(EXAMPLES) == 3


@pytest.mark.parametrize("words", [["figure"], *(["figure", name] for name in FIGURES), ["drift"], ["drift", "check"],
                                   ["drift", "freeze"]], ids=" ".join)  # fmt: skip
def test_the_examples_of_a_command_s_help_are_understood(words):
    code = f"from rapbench.app.cli import main; main({[*words, '--help']!r})"
    text = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    examples = re.findall(r"^  (rapbench .+)$", text.partition("\nexamples:\n")[2], re.MULTILINE)
    assert len(examples) >= 2
    assert max(map(len, text.splitlines())) <= WIDTH
    for example in examples:
        if not example.endswith("--help"):
            understand(example)


@pytest.mark.parametrize(("kind", "name"), ENTRIES)
def test_an_entry_is_shown_with_each_option_its_default_choices_and_meaning(kind, name, capsys):
    group = KINDS[kind]
    text = files_of(group)[name].read_text(encoding="utf-8")
    config, meanings = yaml.safe_load(text), comments_of(text)
    entry = REGISTRIES[group][name]
    out = " ".join(said(["list", kind, name], capsys).split())
    assert config["summary"] in out
    assert "balance" not in out  # of the engine's own tests, and of Python only
    for option, default in options_of(config).items():
        assert meanings.get(option), f"configs/{group}/{name}.yaml: write above {option} what it means"
        assert meanings[option] in out
        assert allowed(entry.annotations()[option]) in out
        if option != "k":
            assert entry.options[option] == default
            assert f" {option} = {in_yaml(default)} " in out
    assert options_of(config) or out.endswith("no options")


@pytest.mark.parametrize("name", files_of("method"))
def test_a_method_is_shown_with_what_is_known_of_it(name, capsys):
    facts = REGISTRIES["method"][name].facts
    out = said(["list", "methods", name], capsys)
    assert re.search(rf"^  in tables +{re.escape(facts.title)}$", out, re.MULTILINE)
    assert re.search(rf"^  evaluated +{' and '.join(facts.signs)} pixels$", out, re.MULTILINE)
    assert re.search(rf"^  cost +about {facts.passes} forward passes", out, re.MULTILINE)


@pytest.mark.parametrize(
    ("kind", "pattern", "there", "not_there"),
    [
        ("models", "*vit*", ["vit_b_16", "timm/vit_tiny_patch16_224"], ["resnet50", "vgg16"]),
        ("models", "vgg16*", ["vgg16", "vgg16_keras"], ["timm/vgg16", "vgg19"]),
        ("methods", "lrp_?1b0", ["lrp_a1b0"], ["lrp_a2b1"]),
        ("data", "[fs]*", ["folder", "samples"], ["imagenet"]),
        ("protocols", "*", list(files_of("protocol")), []),
    ],
)
def test_a_pattern_finds_names_of_every_library(kind, pattern, there, not_there, capsys):
    names = {line.split()[0] for line in said(["list", kind, pattern], capsys).splitlines()}
    assert set(there) <= names
    assert not names & set(not_there)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pattern_that_nothing_matches_is_one_line(kind, capsys):
    assert main(["list", kind, "nothing*like*this"]) == 2
    assert capsys.readouterr().err == (
        f"rapbench: no {kind} match 'nothing*like*this'; 'rapbench list {kind}' shows what there is\n"
    )


WORDS: dict[Any, str] = {
    Literal["a", "b"]: "a, b",
    Literal["a"] | None: "a, or null",
    None | int: "a whole number, or null",
    bool: "true or false",
    float: "a number",
    str: "text",
    PositiveInt: "a whole number, above 0",
    NonNegativeFloat: "a number, at least 0",
    list[int] | str | None: "a list, or text, or null",
    Number: "float32, float16",
    Any: "",
    Annotated[Any, "x"]: "",
}


@pytest.mark.parametrize("annotation", WORDS, ids=str)
def test_an_annotation_is_said_in_words(annotation):
    assert allowed(annotation) == WORDS[annotation]


def test_comments_belong_to_the_key_below_them():
    text = "# The file.\n\n# One,\n# two.\na: 1\nb:\n  # Three.\n  'c': 2\n  d: 3\n# Lost.\n\ne: 4\n"
    assert comments_of(text) == {"a": "One, two.", "b.c": "Three."}


def test_every_shipped_comment_is_read():
    """A comment that is separated from its key would be shown to nobody."""
    for path in sorted(Path(resource("configs", "method")).rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        lines = [line for line in text.splitlines() if line.startswith("#") and "@package" not in line]
        assert sum(map(len, comments_of(text).values())) >= sum(len(line) - 2 for line in lines)
