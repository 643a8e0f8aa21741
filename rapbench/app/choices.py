"""The methods and protocols that a configuration asks for, each with its options checked."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from rapbench.app.values import check_values, options_of
from rapbench.core.errors import RapbenchError
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.shard import Shard
from rapbench.methods import methods
from rapbench.protocols import protocols
from rapbench.registry import Registry


def choices(section: DictConfig, registry: Registry[Any]) -> list[Choice]:
    """Return what a config section asks for: a label, the registry name, options, and a method's title in tables.

    Raises RapbenchError for an unknown name, an unknown option, or a value that it cannot have.
    """
    chosen = []
    sections: Any = OmegaConf.to_container(section, resolve=True)
    for label, settings in sections.items():
        if not isinstance(settings, dict) or "name" not in settings:
            raise RapbenchError(f"{registry.kind} {label!r} must be a mapping with a name, got {settings!r}")
        entry = registry[settings["name"]]
        options = options_of(settings, registry.kind)
        entry.check(options)
        title = settings.get("title", "") if registry.kind == "method" else ""
        chosen.append(Choice(label, entry, options, title=title))
    return chosen


def checked(config: DictConfig) -> tuple[list[Choice], list[Choice], Shard]:
    """Return the methods, the protocols and the shard that a configuration asks for, before anything is loaded.

    Raises RapbenchError for whatever in it makes no sense.
    """
    check_values(config)
    chosen_methods, chosen_protocols = choices(config.method, methods), choices(config.protocol, protocols)
    for choice in chosen_protocols:
        _ = choice.protocol  # which checks its options together
    return chosen_methods, chosen_protocols, Shard.called(config.shard)
