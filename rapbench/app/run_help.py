"""`rapbench run --help`: examples, the groups with their choices, and every setting, from the shipped files."""

from collections.abc import Iterator
from dataclasses import fields
from typing import get_type_hints

from rapbench.app.config import RunConfig, SubsetConfig
from rapbench.app.config_comments import comments_of
from rapbench.app.listing import FAMILIES, files_of
from rapbench.app.option_help import Shown, allowed, in_yaml, wrapped
from rapbench.app.registries import GROUPS, plural
from rapbench.app.settings import PRESETS
from rapbench.app.values import LEAST, ROWS
from rapbench.core.paths import resource
from rapbench.core.reading import parse_yaml, read_text

USAGE = "usage: rapbench run [GROUP=NAME ...] [SETTING=VALUE ...] [-m]"
INTRODUCTION = (
    "Explain a model's answers on images by one or more methods, evaluate the explanations by one or more protocols, "
    "and write tables, figures and a page to results/. The same command goes on where it was stopped."
)
EXAMPLES = """\
examples:
  rapbench run model=efficientnet_lite0 'method=[rap,random]' subset.n=10
  rapbench run data=folder data.root=photos method.rap.residual=absolute device=cuda
  rapbench run -m model=efficientnet_lite0 method=rap,sensitivity      (a sweep: two jobs)"""
FLAGS = """\
flags:
  -m, --multirun    a sweep: a comma between values makes a job of each; ends with their comparison
  --cfg job         print the whole configuration, and run nothing
  --config-dir DIR  a folder with configuration files of your own, laid out as the groups above
  --hydra-help      Hydra's own flags"""
WHAT = {
    "experiment": "a whole configuration, which the settings beside it change",
    "launch": "where the jobs of a sweep run; without it, one after the other",
}


def run_help() -> str:
    """Return the help."""
    groups = [line for group in (*GROUPS, *PRESETS) for line in _group(group)]
    options = "Models, data sets, methods and protocols have options, as method.rap.flow: 'rapbench list KIND NAME'."
    lines = [
        *(USAGE, "", *wrapped(INTRODUCTION, ""), "", EXAMPLES, ""),
        *("groups, each with its choices; 'rapbench list' says what they are:", *groups, ""),
        *("settings, with their defaults:", *(line for one in settings() for line in one.lines()), ""),
        *(*wrapped(options, ""), "", FLAGS),
    ]
    return "\n".join(lines)


def settings() -> list[Shown]:
    """Return the settings of a run that belong to no group, as configs/run.yaml has them."""
    text = read_text(resource("configs", "run.yaml"))
    meanings, defaults = comments_of(text), parse_yaml(text)
    kinds = get_type_hints(RunConfig)
    kinds |= {f"subset.{field}": kind for field, kind in get_type_hints(SubsetConfig).items()}
    shown = []
    for name in (field.name for field in fields(RunConfig) if field.name not in GROUPS):
        inside = defaults[name] if isinstance(defaults[name], dict) else {}
        for setting, value in {f"{name}.{key}": it for key, it in inside.items()}.items() or [(name, defaults[name])]:
            may = allowed(kinds.get(setting, list))  # the k of each sign is one
            if setting in LEAST:
                may = may.replace("a whole number", f"a whole number, at least {LEAST[setting]}")
            default = defaults["hydra"]["run"]["dir"] if setting == "output" else value  # which Hydra hands back
            shown.append(Shown(setting, in_yaml(default), may, meanings.get(setting) or meanings.get(name, "")))
    return shown


def _group(group: str) -> Iterator[str]:
    names = [*files_of(group), *FAMILIES.get(plural(group), {})]
    said = WHAT.get(group) or ("several, as in " + f"'{group}=[{','.join(names[:2])}]'" if group in ROWS else "one")
    yield from wrapped(f"{group:11s} {said}", "  ", " " * 14)
    yield from wrapped(", ".join(names), " " * 14)
