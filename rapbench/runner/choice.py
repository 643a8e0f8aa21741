"""A run's choice of methods and protocols, each with its options checked."""

from dataclasses import dataclass, field, replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from rapbench.errors import RapbenchError
from rapbench.files import file_hash
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.protocols._ks import Sign, check_ks
from rapbench.protocols.regions import ORDERS, check_steps
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
    ks: dict[Sign, list[int | str]]
    files: dict[str, str] = field(default_factory=dict)

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
        options = self.options | self.files
        return {"name": self.entry.name, "options": options, "k": self.ks, "code": code_version(self.entry)}


def choices(section: DictConfig, registry: Registry) -> list[Choice]:
    """Return what a config section asks for: a label, the registry name, options, and for protocols K lists.

    Raises RapbenchError for an unknown name, an unknown option, a value of the wrong type or a K list out of order.
    """
    chosen = []
    sections: Any = OmegaConf.to_container(section, resolve=True)
    for label, settings in sections.items():
        if not isinstance(settings, dict) or "name" not in settings:
            raise RapbenchError(f"{registry.kind} {label!r} must be a mapping with a name, got {settings!r}")
        entry = registry[settings["name"]]
        options = options_of(settings)
        entry.check(options)
        if "k" in settings and entry.facts.get("kind") == "regions":
            raise RapbenchError(f"protocol {label!r} has no k, it replaces regions one by one: set its steps")
        ks = check_ks(label, settings["k"]) if "k" in settings else {}
        chosen.append(Choice(label, entry, options, ks))
    return chosen


def lists(method: Choice, protocol: Choice) -> dict[Any, list[Any]]:
    """Return a protocol's K lists for the signs that a method has; of regions, the steps 0 to L in each order."""
    if protocol.entry.facts["kind"] == "regions":
        return {order: list(range(protocol.set_to("steps") + 1)) for order in ORDERS}
    return {sign: ks for sign, ks in protocol.ks.items() if sign in method.entry.facts["signs"]}


def check_regions(protocols: list[Choice], pixels: int) -> None:
    """Raise RapbenchError for a protocol that replaces more regions than there are in a square image of `pixels`."""
    for protocol in protocols:
        if protocol.entry.facts["kind"] == "regions":
            try:
                check_steps(protocol.set_to("steps"), protocol.set_to("size"), (pixels, pixels))
            except RapbenchError as error:
                raise RapbenchError(f"protocol {protocol.label!r}: {error}") from error


def checked(config: DictConfig) -> tuple[list[Choice], list[Choice], Shard]:
    """Return the methods, the protocols and the shard that a configuration asks for, before anything is loaded.

    Raises RapbenchError for whatever in it makes no sense.
    """
    check_values(config)
    chosen_methods, chosen_protocols = choices(config.method, methods), choices(config.protocol, protocols)
    return chosen_methods, chosen_protocols, Shard.called(config.shard)
