"""The registries by the config group whose options they are."""

from typing import Any

from rapbench.data import datasets
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.registry import Registry
from rapbench.zoo import models

REGISTRIES: dict[str, Registry[Any]] = {"model": models, "data": datasets, "method": methods, "protocol": protocols}
GROUPS = tuple(REGISTRIES)


def plural(group: str) -> str:
    """Return what the entries of a group are called together."""
    return group if group == "data" else f"{group}s"
