"""The models and the data set of the last jobs, so that a sweep's next job in the same process need not load them."""

import functools
import json
from typing import Any

from rapbench.core.memory_format import placed
from rapbench.data import load_data
from rapbench.data.labelled.dataset import Dataset
from rapbench.evaluation.identity import model_key
from rapbench.model import Model
from rapbench.zoo import load_model


def loaded_model(settings: dict[str, Any], device: str) -> Model:
    """Return the model with a name and options, on the device, channels-last. Raises RapbenchError."""
    return _model(json.dumps(settings), device)


def loaded_data(settings: dict[str, Any]) -> Dataset:
    """Return the data set with a name and options. Raises RapbenchError."""
    return _data(json.dumps(settings))


def forget() -> None:
    """Load everything anew from here on: files may have changed."""
    _model.cache_clear()
    _data.cache_clear()


@functools.lru_cache(maxsize=2)
def _model(settings: str, device: str) -> Model:
    model = load_model(**json.loads(settings))
    model_key(model)  # before anything it computes can leave something in it
    return placed(model, device)


@functools.lru_cache(maxsize=1)
def _data(settings: str) -> Dataset:
    return load_data(**json.loads(settings))
