"""`rapbench train`: a configuration to its folds, each trained or found finished, and the figures over them."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rapbench.app.loaded_models import loaded_data
from rapbench.app.training_values import folds_of
from rapbench.app.values import options_of
from rapbench.core.allocator import keep_memory
from rapbench.core.console import say
from rapbench.core.device import device_called
from rapbench.core.errors import RapbenchError
from rapbench.store.contents import digest_of
from rapbench.training.fold import CrossValidation, Study, train_fold
from rapbench.training.settings import TrainingSettings
from rapbench.training.summary import fold_folder, summarise
from rapbench.zoo import load_model


def train(config: DictConfig) -> str:
    """Train what the configuration asks for; return the figures over all folds in `config.output`.

    Raises RapbenchError for anything that the user can mend.
    """
    keep_memory()
    study = study_of(config)
    output = Path(os.path.relpath(config.output))
    for number in folds_of(config, study.cross.folds):
        record = train_fold(study, number, fold_folder(output, number))
        say(f"fold {number}: {record['epochs']} epochs, weights of epoch {record['best_epoch']}, in "
            f"{fold_folder(output, number)}/")  # fmt: skip
    return summarise(output, digest_of(study.key()))


def study_of(config: DictConfig) -> Study:
    """Return what a configuration says of its folds. Raises RapbenchError for data without cubes."""
    data: Any = OmegaConf.to_container(config.data, resolve=True)
    options = options_of(data) | {"part": "all", "fold": 0}
    if not {"folds", "share", "seed"} <= options.keys():
        raise RapbenchError(f"data={data['name']} has no folds to train on; choose data=nodule_phantoms or data=luna16")
    given: Any = OmegaConf.to_object(config.training)
    settings = TrainingSettings(**{field.name: getattr(given, field.name) for field in dataclasses.fields(given)})
    folds = {name: options[name] for name in ("folds", "scheme", "share", "seed") if name in options}
    model: Any = OmegaConf.to_container(config.model, resolve=True)
    device = device_called(config.device)
    dataset: Any = loaded_data({"name": data["name"]} | options)
    network = load_model(model["name"], **options_of(model))
    return Study(dataset.cubes, network, CrossValidation(**folds), settings, config.seed, device)
