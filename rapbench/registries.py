"""The registries by the config group whose options they are."""

from rapbench.data import datasets
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.zoo import models

REGISTRIES = {"model": models, "data": datasets, "method": methods, "protocol": protocols}
