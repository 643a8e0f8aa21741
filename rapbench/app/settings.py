"""The names of a run's settings: nothing misspelt is passed over, whichever way Hydra was told of it."""

import re
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from omegaconf import DictConfig

from rapbench.app.config import RunConfig, SubsetConfig
from rapbench.app.registries import REGISTRIES, plural
from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.registry.declared import declared_options
from rapbench.training.settings import TrainingSettings

SETTINGS = {
    "": [field.name for field in fields(RunConfig)],
    "subset": [field.name for field in fields(SubsetConfig)],
    "k": ["positive", "negative"],
    "training": [field.name for field in fields(TrainingSettings)],
}
OF_TRAINING = "training"  # the section that no run has
PRESETS = ["experiment", "launch"]  # of configs/, no settings in themselves
NOT_OVERRIDDEN = re.compile(r"Could not override '([^']+)'")


def check_names(config: DictConfig) -> None:
    """Raise RapbenchError for a setting that the command does not have (`+name=`), or that was taken away (`~name`).

    Options of models, data, methods and protocols are checked where they are used.
    """
    given: dict[str, Iterable[Any]] = {
        "": [name for name in config if name != "hydra"],
        "subset": config.get("subset") or (),
        "k": config.get("k") or (),
        OF_TRAINING: config.get(OF_TRAINING) or (),
    }
    for place, names in given.items():
        for name in names:
            if name not in SETTINGS[place] and (place, name) != ("", OF_TRAINING):
                raise unknown(f"{place}.{name}".lstrip("."))
    if missing := set(SETTINGS[""]) - set(config):
        raise RapbenchError(f"a run needs the setting {min(missing)!r}; do not remove it")


def unknown(setting: str) -> RapbenchError:
    """Return what to say of a setting that there is not; its name is the whole one, such as method.rap.flow."""
    place, _, name = setting.rpartition(".")
    group, _, label = place.partition(".")
    if place == OF_TRAINING and name in SETTINGS[place]:
        return RapbenchError(f"setting {setting!r} is one of rapbench train, not of rapbench run")
    if place in SETTINGS:
        known = SETTINGS[place] + ([] if place else PRESETS)
        where = f"the settings of {place}" if place else "the settings"
    elif label and group in REGISTRIES and label in (options := declared_options(REGISTRIES[group].package)):
        known = list(options[label])
        where = f"the options of {label}"
    elif group in REGISTRIES:
        return RapbenchError(
            f"there is no setting {setting!r} of the chosen {group}; "
            f"'rapbench list {plural(group)} NAME' tells the options"
        )
    else:
        return RapbenchError(f"there is no setting {setting!r}")
    if name in known:
        return RapbenchError(f"setting {setting!r} has no meaning here: {label} is not among the chosen {group}s")
    hint = did_you_mean(name, known)
    return RapbenchError(f"there is no setting {setting!r}{hint}; {where}: {', '.join(known) or 'none'}")
