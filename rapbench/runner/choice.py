"""A run's choice of methods and protocols, each with its options checked."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import nn

from rapbench.data._manifest import Row
from rapbench.errors import RapbenchError
from rapbench.files import file_hash
from rapbench.methods import methods
from rapbench.methods.heatmaps import ReadyMade
from rapbench.model import Model
from rapbench.protocols import protocols
from rapbench.protocols._fills import MOMENTS
from rapbench.registry import Registry
from rapbench.runner.chosen import Choice
from rapbench.runner.shard import Shard
from rapbench.values import check_values, options_of


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


def with_files(choice: Choice, model: nn.Module) -> Choice:
    """Return the choice with the SHA-256 of each file that an option names, or stands for by default.

    The registered fact `files` holds a function for each such option: (model, value) -> path.
    """
    wanted = choice.entry.facts.files
    return replace(choice, files={name: file_hash(find(model, choice.set_to(name))) for name, find in wanted.items()})


def check_ready(methods: Sequence[Choice]) -> None:
    """Raise RapbenchError for ready-made heatmaps that are not there, before a model is loaded for them."""
    for choice in methods:
        if isinstance(choice.entry, ReadyMade):
            try:
                choice.entry.source.check()
            except RapbenchError as error:
                raise RapbenchError(f"method {choice.label!r}: {error}") from error


def matched(choice: Choice, rows: Sequence[Row], space: Sequence[int], order: Sequence[Row] | None = None) -> Choice:
    """Return a method with ready-made heatmaps with those of a run's images, and their SHA-256; any other as it is.

    order: all images in the order of a stack of heatmaps; `rows` by default. Raises RapbenchError for an image without
    a heatmap, and for a heatmap that cannot be used.
    """
    if not isinstance(choice.entry, ReadyMade):
        return choice
    try:
        entry = choice.entry.match(rows, space, choice.set_to("signs"), order)
    except RapbenchError as error:
        raise RapbenchError(f"method {choice.label!r}: {error}") from error
    known = entry.matched
    assert known is not None
    return replace(choice, entry=entry, options={"signs": list(known.signs)}, files={"heatmaps": known.sha256})


def check_space(protocols: list[Choice], space: Sequence[int], model: Model) -> None:
    """Raise RapbenchError for a protocol that cannot evaluate a model's inputs with these spatial dimensions."""
    for choice in protocols:
        try:
            choice.protocol.check(space)
            if choice.protocol.needs_normalisation and model.normalisation is None:
                raise RapbenchError(f"it needs {MOMENTS}")
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
