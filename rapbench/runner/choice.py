"""A run's choice of methods and protocols, each with its options checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from rapbench.errors import RapbenchError
from rapbench.files import file_hash
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols.batch import Step
from rapbench.protocols.protocol import Protocol
from rapbench.registry import Entry, Registry
from rapbench.runner.identity import code_version
from rapbench.runner.shard import Shard
from rapbench.values import check_values, options_of


@dataclass(frozen=True)
class Choice:
    """A method or protocol as a run uses it: its label in the tables, its registry entry, and its options."""

    label: str
    entry: Entry
    options: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)

    @cached_property
    def protocol(self) -> Protocol:
        """The protocol, made with its options. Raises RapbenchError for options that make no sense together."""
        try:
            return self.entry.function(**self.options)
        except RapbenchError as error:
            raise RapbenchError(f"protocol {self.label!r}: {error}") from error

    def with_files(self, model: nn.Module) -> "Choice":
        """Return the choice with `files`: the SHA-256 of each file that an option names, or stands for by default.

        The registered fact `files` holds a function for each such option: (model, value) -> path.
        """
        found = {}
        for option, find in self.entry.facts.get("files", {}).items():
            found[option] = file_hash(find(model, self.set_to(option)))
        return replace(self, files=found)

    def set_to(self, option: str) -> Any:
        """Return an option's value, the default where it is not given."""
        return (self.entry.options | self.options)[option]

    @property
    def identity(self) -> dict[str, Any]:
        """What a result depends on; of a file, its content, wherever it lies."""
        options = {name: value for name, value in (self.options | self.files).items() if name != "k"}
        k = self.options.get("k", {})
        return {"name": self.entry.name, "options": options, "k": k, "code": code_version(self.entry)}


def choices(section: DictConfig, registry: Registry) -> list[Choice]:
    """Return what a config section asks for: a label, the registry name and options.

    Raises RapbenchError for an unknown name, an unknown option, or a value that it cannot have.
    """
    chosen = []
    sections: Any = OmegaConf.to_container(section, resolve=True)
    for label, settings in sections.items():
        if not isinstance(settings, dict) or "name" not in settings:
            raise RapbenchError(f"{registry.kind} {label!r} must be a mapping with a name, got {settings!r}")
        entry = registry[settings["name"]]
        options = options_of(settings)
        entry.check(options)
        chosen.append(Choice(label, entry, options))
    return chosen


def variants(method: Choice, protocol: Choice) -> dict[str, list[Step]]:
    """Return the steps of each variant of a protocol that a method has."""
    return protocol.protocol.variants(method.entry.facts["signs"])


def check_space(protocols: list[Choice], space: Sequence[int]) -> None:
    """Raise RapbenchError for a protocol that cannot evaluate inputs with these spatial dimensions."""
    for choice in protocols:
        try:
            choice.protocol.check(space)
        except RapbenchError as error:
            raise RapbenchError(f"protocol {choice.label!r}: {error}") from error


def checked(config: DictConfig) -> tuple[list[Choice], list[Choice], Shard]:
    """Return the methods, the protocols and the shard that a configuration asks for, before anything is loaded.

    Raises RapbenchError for whatever in it makes no sense.
    """
    check_values(config)
    chosen_methods, chosen_protocols = choices(config.method, methods), choices(config.protocol, protocols)
    for choice in chosen_protocols:
        _ = choice.protocol  # which checks its options together
    return chosen_methods, chosen_protocols, Shard.called(config.shard)
