"""The shape of a run's configuration: what `configs/` composes, checked by type as soon as it is composed."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from rapbench.app.config_source import RegistrySource
from rapbench.core.precision import Precision
from rapbench.evaluation.run_spec import GALLERY, N
from rapbench.training.settings import TrainingSettings


class Number(Enum):
    """The number format of kept heatmaps."""

    float32 = "float32"
    float16 = "float16"


class Paper(Enum):
    """Whether the paper's Table I stands beside the results: auto where they can be compared."""

    auto = "auto"
    on = "on"
    off = "off"


@dataclass
class SubsetConfig:
    """The correct-prediction subset: n images drawn with a seed, or those of a manifest written before.

    require: further models that have to classify each image correctly, by name or as a mapping with options.
    """

    n: int = N
    seed: int = 0
    manifest: str | None = None
    require: list[Any] = field(default_factory=list)


@dataclass
class RunConfig:
    """One run: a model and a data set with their options, any number of methods and protocols (by label)."""

    name: str = "run"
    model: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    method: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    k: dict[str, list[Any]] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.fp32
    chunk: int | None = None
    batch: int | None = None
    shard: str | None = None
    heatmaps: Number | None = None
    gallery: int = GALLERY
    paper: Paper = Paper.auto
    optional: list[str] = field(default_factory=list)
    pattern_images: int | None = None
    results: str = "results"
    output: str = "???"


@dataclass
class TrainConfig(RunConfig):
    """A training. What of a run's settings it has no use for may come from an experiment, and is passed over."""

    name: str = "train"
    training: TrainingSettings = field(default_factory=TrainingSettings)


ConfigStore.instance().store(name="schema", node=RunConfig)
ConfigStore.instance().store(name="train_schema", node=TrainConfig)
Plugins.instance().register(RegistrySource)
