"""A run's methods and protocols against its model and images: their files, heatmaps and shapes."""

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.data.subset.manifest import Row
from rapbench.evaluation.choice import Choice
from rapbench.methods.heatmaps import ReadyMade
from rapbench.model import Model
from rapbench.protocols.base.fills import MOMENTS


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
