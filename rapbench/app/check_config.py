"""A composed configuration, of `rapbench run` or of `rapbench train`, checked before anything is loaded."""

from omegaconf import DictConfig

from rapbench.app.settings import OF_TRAINING, check_names
from rapbench.app.training_values import check_training
from rapbench.app.values import check_values


def of_training(config: DictConfig) -> bool:
    """Whether a configuration is of `rapbench train`."""
    return OF_TRAINING in config


def check_config(config: DictConfig) -> None:
    """Raise RapbenchError for a setting that the command does not have, or a value that it cannot have."""
    check_names(config)
    if of_training(config):
        check_training(config)
    else:
        check_values(config)


def check_before_jobs(config: DictConfig) -> None:
    """Raise RapbenchError for what would fail in every job of a multirun; loads what the checks take."""
    if not of_training(config):
        from rapbench.app.choices import checked

        checked(config)
