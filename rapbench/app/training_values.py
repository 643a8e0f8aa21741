"""The values of a training's settings, checked before torch is imported."""

from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from rapbench.app.settings import PRESETS
from rapbench.app.values import check_common, check_part
from rapbench.core.errors import RapbenchError, did_you_mean

# Of the settings in `training`, the least and the most that make sense; infinity is no value of any.
BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 100_000),
    "batch": (2, 1_000_000),
    "augmentations": (1, 10_000),
    "rotation": (0, 180),
    "shear": (0, 10),
    "scaling": (0, 0.9),
    "shift": (0, 1000),
    "learning_rate": (0, 1e6),
    "weight_decay": (0, 1e6),
    "patience": (1, 100_000),
    "devices": (1, 10_000),
    "workers": (0, 1000),
}
PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
# What of a composed configuration a training reads; the rest says how a network is explained and evaluated.
USED = ("model", "data", "training", "name", "seed", "device", "results", "output", "hydra", *PRESETS)
SET_BY_TRAINING = {"data.fold": "training.fold says which folds", "data.part": "training takes all parts of the data"}


def check_training(config: DictConfig) -> None:
    """Raise RapbenchError for a value that no training can have."""
    settings = config.training
    for name, (least, most) in BOUNDS.items():
        value = settings[name]
        if value is not None and not least <= value <= most:
            raise RapbenchError(f"training.{name} must be {least:g} to {most:,g}, got {value}")
    if not settings.learning_rate:
        raise RapbenchError("training.learning_rate must be above 0")
    if not 0 < settings.share < 1:
        raise RapbenchError(f"training.share must be above 0 and below 1, got {settings.share}")
    if settings.precision not in PRECISIONS:
        hint = did_you_mean(settings.precision, PRECISIONS)
        raise RapbenchError(f"training.precision={settings.precision!r}{hint} must be one of {', '.join(PRECISIONS)}")
    folds_of(config, most=10_000)
    check_common(config)
    for group in ("model", "data"):
        check_part(group, "", OmegaConf.to_container(config[group], resolve=True))


def folds_of(config: DictConfig, most: int) -> list[int]:
    """Return the folds to train, of 0 to most - 1. Raises RapbenchError for what is none."""
    given: Any = config.training.fold
    if given is None:
        return list(range(most))
    found: Any = OmegaConf.to_container(given) if OmegaConf.is_list(given) else [given]
    for fold in found:
        if isinstance(fold, bool) or not isinstance(fold, int) or not 0 <= fold < most:
            raise RapbenchError(f"training.fold={given!s:.60} must be a fold, 0 to {most - 1}, a list of them, or null")
    if not found or len(set(found)) < len(found):
        raise RapbenchError(f"training.fold={given!s:.60} must name each fold once")
    return list(map(int, found))


def check_used(overrides: list[str]) -> None:
    """Raise RapbenchError for a setting on the command line that a training does not read."""
    for override in OverridesParser.create().parse_overrides(overrides):
        key = override.key_or_group
        if key in SET_BY_TRAINING:
            raise RapbenchError(f"{key} has no meaning in training: {SET_BY_TRAINING[key]}")
        if (first := key.split(".")[0].split("/")[0].split("@")[0]) not in USED:
            raise RapbenchError(
                f"{first!r} has no meaning in training, whose settings are those of {', '.join(USED)}; see rapbench "
                "train --help"
            )
