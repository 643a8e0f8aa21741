"""`rapbench run --help`, `rapbench train --help`: examples, groups with their choices, settings, from the files."""

import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Literal, get_type_hints

from rapbench.app.config import SubsetConfig, TrainConfig
from rapbench.app.config_comments import comments_of
from rapbench.app.listing import FAMILIES, files_of
from rapbench.app.option_help import Shown, allowed, in_yaml, wrapped
from rapbench.app.registries import GROUPS, plural
from rapbench.app.settings import PRESETS
from rapbench.app.training_values import BOUNDS, PRECISIONS, USED
from rapbench.app.values import LEAST, ROWS
from rapbench.core.paths import resource
from rapbench.core.reading import parse_yaml, read_text
from rapbench.training.settings import TrainingSettings

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
TRAIN_USAGE = "usage: rapbench train [GROUP=NAME ...] [SETTING=VALUE ...] [-m]"
TRAIN_INTRODUCTION = (
    "Train a network to tell lung nodules from other candidates in cubes of CT, one fold of a cross-validation after "
    "another, and write each fold's weights and predictions, and the figures over the folds, to results/. Finished "
    "folds are not trained again; the same command goes on where it was stopped."
)
TRAIN_EXAMPLES = """\
examples:
  rapbench train training.fold=0 training.epochs=2
  rapbench train model.width=0.25 training.labels=shuffled device=cuda
  rapbench train -m training.fold=0,1,2 launch=joblib      (a sweep: three jobs)"""
TRAIN_FLAGS = """\
flags:
  -m, --multirun    a sweep: a comma between values makes a job of each; folds are summed up
  --cfg job         print the whole configuration, and train nothing
  --config-dir DIR  a folder with configuration files of your own, laid out as the groups above
  --hydra-help      Hydra's own flags"""
WHAT = {
    "experiment": "a whole configuration, which the settings beside it change",
    "launch": "where the jobs of a sweep run; without it, one after the other",
}


def run_help() -> str:
    """Return the help."""
    options = "Models, data sets, methods and protocols have options, as method.rap.flow: 'rapbench list KIND NAME'."
    return _help(USAGE, INTRODUCTION, EXAMPLES, [*GROUPS, *PRESETS], settings(), options, FLAGS)


def train_help() -> str:
    """Return the help of `rapbench train`."""
    groups = [group for group in (*GROUPS, *PRESETS) if group in USED]
    options = "Models and data sets have options, as model.width or data.folds: 'rapbench list KIND NAME'."
    return _help(TRAIN_USAGE, TRAIN_INTRODUCTION, TRAIN_EXAMPLES, groups, settings("train"), options, TRAIN_FLAGS)


def _help(
    usage: str, introduction: str, examples: str, groups: list[str], known: list[Shown], options: str, flags: str
) -> str:
    lines = [
        *(usage, "", *wrapped(introduction, ""), "", examples, ""),
        "groups, each with its choices; 'rapbench list' says what they are:",
        *(line for group in groups for line in _group(group)),
        *("", "settings, with their defaults:", *(line for one in known for line in one.lines()), ""),
        *(*wrapped(options, ""), "", flags),
    ]
    return "\n".join(lines)


def settings(command: str = "run") -> list[Shown]:
    """Return the settings of a command that belong to no group, as configs/<command>.yaml has them."""
    text = read_text(resource("configs", f"{command}.yaml"))
    meanings, defaults = comments_of(text), parse_yaml(text)
    kinds = get_type_hints(TrainConfig)
    for section, of in {"subset": SubsetConfig, "training": TrainingSettings}.items():
        kinds |= {f"{section}.{field}": kind for field, kind in get_type_hints(of).items()}
    kinds |= {"training.fold": int | list[int] | None, "training.precision": Literal[PRECISIONS]}
    shown = []
    for name in (field.name for field in fields(TrainConfig) if field.name not in GROUPS and field.name in defaults):
        inside = defaults[name] if isinstance(defaults[name], dict) else {}
        for setting, value in {f"{name}.{key}": it for key, it in inside.items()}.items() or [(name, defaults[name])]:
            may = allowed(kinds.get(setting, list))  # the k of each sign is one
            if setting in LEAST:
                may = may.replace("a whole number", f"a whole number, at least {LEAST[setting]}")
            if setting.startswith("training.") and (bounds := BOUNDS.get(setting.partition(".")[2])):
                kind, *null = may.split(", or ")
                may = ", or ".join([f"{kind}, {bounds[0]:g} to {bounds[1]:g}", *null])
            default = value
            if setting == "output":  # which Hydra hands back
                default = re.sub(r"\$\{trained:.*\}", "${data.name}", defaults["hydra"]["run"]["dir"])
            shown.append(Shown(setting, in_yaml(default), may, meanings.get(setting) or meanings.get(name, "")))
    return shown


def _group(group: str) -> Iterator[str]:
    names = [*files_of(group), *FAMILIES.get(plural(group), {})]
    said = WHAT.get(group) or ("several, as in " + f"'{group}=[{','.join(names[:2])}]'" if group in ROWS else "one")
    yield from wrapped(f"{group:11s} {said}", "  ", " " * 14)
    yield from wrapped(", ".join(names), " " * 14)
