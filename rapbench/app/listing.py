"""`rapbench list`: the entries of the registries, and one entry's options; without loading torch if possible."""

import inspect
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rapbench.app.config_comments import comments_of
from rapbench.app.option_help import Shown, allowed, in_yaml, wrapped
from rapbench.app.registries import GROUPS, REGISTRIES, plural
from rapbench.app.values import ROWS, options_of
from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.core.paths import resource
from rapbench.core.reading import parse_yaml, read_text
from rapbench.registry import Entry
from rapbench.registry.declared import declared

KINDS = {plural(group): group for group in GROUPS}
FAMILIES = {
    "models": {
        "<torchvision name>": "any other of torchvision's classification models, such as densenet121 (its hub)",
        "timm/<name>": "any of timm's models with ImageNet-1k weights, such as timm/resnet18 (Hugging Face hub)",
    },
    "methods": {
        "captum:<class>": "any attribution class of Captum, such as captum:IntegratedGradients, with its own options",
        "heatmaps:<path>": "heatmaps that others computed: a folder, or a .npy, .safetensors or .pt file",
    },
}


def overview(kind: str | None) -> str:
    """Return the names of one kind of entries, or of all, with their summaries."""
    lines = []
    for title in [kind] if kind else KINDS:
        lines += [f"{title}:", *_named(files_of(KINDS[title]))]
        lines += [f"  {name:22s} {summary}" for name, summary in FAMILIES.get(title, {}).items()]
    return "\n".join(lines)


def is_pattern(name: str) -> bool:
    """Whether a name stands for several, as *vit* does; a path of heatmaps is one of its own."""
    return bool(re.search(r"[*?\[]", name)) and ":" not in name


def matching(kind: str, pattern: str) -> str:
    """Return the entries whose names match a pattern, those of other libraries too. RapbenchError where none does."""
    found = {name: path for name, path in files_of(KINDS[kind]).items() if fnmatchcase(name, pattern)}
    registry = REGISTRIES[KINDS[kind]]
    others = registry.outside_names() if kind in FAMILIES else []
    more = sorted({name for name in others if fnmatchcase(name, pattern)} - found.keys())
    if not found and not more:
        raise RapbenchError(f"no {kind} match {pattern!r}; 'rapbench list {kind}' shows what there is")
    return "\n".join([*_named(found), *(f"  {name}" for name in more)])


def described(kind: str, name: str) -> str:
    """Return what an entry is, its facts, and its options: default, what it may be instead, meaning.

    Of a built-in entry it is read from its files; what another library or a user's module names is looked up.
    """
    group, files = KINDS[kind], files_of(KINDS[kind])
    if name not in files and ":" not in name and kind != "models":
        hint = did_you_mean(name, files)
        raise RapbenchError(f"unknown {group} {name!r}{hint}; known: {', '.join([*files, *FAMILIES.get(kind, {})])}")
    known = declared(REGISTRIES[group].package).get(name)
    if kind == "models" or known is None or name not in files:
        entry = REGISTRIES[group][name]
        options = entry.annotations()
        about = _facts_of_model(entry) if "facts" in _facts(entry) else _docstring(entry)
    else:
        options, about = known.options, _facts_of_file(known.source, known.facts)
    if name in files:
        text = read_text(files[name])
        settings = parse_yaml(text)
        summary, defaults, meanings = settings["summary"], options_of(settings), comments_of(text)
    else:
        summary, defaults, meanings = "", entry.options, {}
    place = f"{group}.{name}" if group in ROWS else group
    shown = [Shown(option, in_yaml(value), allowed(options.get(option, Any)), meanings.get(option, ""))
             for option, value in defaults.items()]  # fmt: skip
    head = f"options, each set with {place}.OPTION=VALUE:" if shown else "no options"
    lines = [f"{name}: {summary}" if summary else name, *about, "", head, *(it for one in shown for it in one.lines())]
    return "\n".join(lines)


def files_of(group: str) -> dict[str, Path]:
    """Return the configuration files of a group's entries by name."""
    return {path.stem: path for path in sorted(resource("configs", group).glob("*.yaml"))}


def _named(files: dict[str, Path]) -> Iterator[str]:
    return (f"  {name:22s} {parse_yaml(read_text(path))['summary']}" for name, path in files.items())


def _facts(entry: Entry[Any]) -> dict[str, Any]:
    return entry.facts if isinstance(entry.facts, dict) else {}


def _facts_of_model(entry: Entry[Any]) -> list[str]:
    facts = vars(entry.facts["facts"]) | {"preprocessing": " ".join(str(entry.facts["transform"]).split())}
    facts = {key: "unknown" if value is None else value for key, value in facts.items() if value != ""}
    return [line for key, value in facts.items() for line in wrapped(f"{key:14s} {value}", "  ", " " * 17)]


def _docstring(entry: Entry[Any]) -> list[str]:
    return [f"  {line}".rstrip() for line in (inspect.getdoc(entry.function) or "").splitlines()]


def _facts_of_file(source: str, facts: dict[str, Any]) -> list[str]:
    """Return what a file's docstring says of an entry, and of a method what was stated when it was registered."""
    said = {"what": source}
    if "title" in facts:
        said |= {"in tables": facts["title"], "evaluated": f"{' and '.join(facts['signs'])} pixels"}
        said["cost"] = f"about {facts['passes']} forward passes for an image"
    return [line for key, value in said.items() for line in wrapped(f"{key:10s} {value}", "  ", " " * 13)]
