"""The shape of a run's configuration: what `configs/` composes, checked by type as soon as it is composed."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from hydra.core.config_store import ConfigStore


class Precision(Enum):
    """The number format of perturbed forward passes; attribution is always float32."""

    fp32 = "fp32"
    bf16 = "bf16"


@dataclass
class ModelConfig:
    """A zoo entry, by its registry name."""

    name: str = "???"
    summary: str = ""


@dataclass
class DataConfig:
    """A data set, by its registry name, and where it lies."""

    name: str = "???"
    summary: str = ""
    root: str | None = None


@dataclass
class SubsetConfig:
    """The correct-prediction subset: n images drawn with a seed, or those of a manifest written before."""

    n: int = 500
    seed: int = 0
    manifest: str | None = None


@dataclass
class RunConfig:
    """One run: a model and a data set, any number of methods and protocols (by label)."""

    name: str = "run"
    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    subset: SubsetConfig = field(default_factory=SubsetConfig)
    method: dict[str, Any] = field(default_factory=dict)
    protocol: dict[str, Any] = field(default_factory=dict)
    k: dict[str, list[Any]] = field(default_factory=dict)
    seed: int = 0
    device: str = "auto"
    precision: Precision = Precision.fp32
    chunk: int = 8
    batch: int | None = None
    results: str = "results"
    output: str = "???"


ConfigStore.instance().store(name="schema", node=RunConfig)
