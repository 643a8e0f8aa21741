"""How a network is trained."""

from dataclasses import dataclass
from enum import Enum
from typing import Any


class Labels(Enum):
    """given: as the data has them. shuffled: permuted before training, so that nothing can be learnt: a control."""

    given = "given"
    shuffled = "shuffled"


class Augment(Enum):
    """Which candidates are changed by chance: the nodules, as in the paper, or all."""

    nodules = "nodules"
    all = "all"


class Optimizer(Enum):
    """adamw: decoupled weight decay. sgd: with Nesterov's momentum of 0.9."""

    adamw = "adamw"
    sgd = "sgd"


class Schedule(Enum):
    """cosine: the learning rate rises over the first tenth of the steps, then falls to nothing. constant."""

    cosine = "cosine"
    constant = "constant"


@dataclass
class TrainingSettings:
    """The section `training` of configs/train.yaml, which says what each means."""

    fold: Any = None
    epochs: int = 7
    batch: int = 16
    share: float = 0.4
    augmentations: int = 2
    augment: Augment = Augment.all
    flips: bool = True
    rotation: float = 30.0
    shear: float = 0.1
    scaling: float = 0.1
    shift: int = 4
    optimizer: Optimizer = Optimizer.adamw
    learning_rate: float = 0.0016
    weight_decay: float = 0.01
    schedule: Schedule = Schedule.cosine
    patience: int | None = None
    precision: str = "32-true"
    devices: int = 1
    strategy: str = "auto"
    workers: int = 0
    labels: Labels = Labels.given
    natural: bool = True


# What changes neither weights nor predictions, or is told otherwise.
BESIDE = ("fold", "workers", "natural")
