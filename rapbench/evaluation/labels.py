"""The labels of a run's methods and protocols: each row of a report stands under one, and is read by it."""

from collections.abc import Iterable, Sequence
from typing import Any

from rapbench.core.errors import RapbenchError
from rapbench.evaluation.choice import Choice
from rapbench.registry import Registry
from rapbench.results.display import NAMES, PAPER
from rapbench.results.info import ProtocolInfo
from rapbench.results.layouts import DISTANCE, layout_of


def check_labels(registry: Registry[Any], chosen: Sequence[Choice]) -> None:
    """Raise RapbenchError for a label that is another entry's name, and for two that the tables show alike."""
    shown: dict[str, str] = {PAPER: PAPER}
    stated = titles(chosen) if registry.kind == "method" else {}
    for choice in chosen:
        label = choice.label
        if label in registry and registry[label].function is not choice.entry.function:
            raise RapbenchError(
                f"{registry.kind} {label!r} is set to {choice.entry.name}, and would have the wrong name; give "
                f"{choice.entry.name} a label of its own, such as my_{label}"
            )
        name = stated.get(label) or NAMES.get(label, label)
        if name in shown:
            raise RapbenchError(
                f"{registry.kind}s {shown[name]!r} and {label!r} would both be shown as {name!r}; rename one"
            )
        shown[name] = label


def titles(methods: Iterable[Choice]) -> dict[str, str]:
    """Return by label what methods are called that are given a title, or state one and go by their own label."""
    stated = {choice.label: choice.entry.facts.title for choice in methods if choice.label == choice.entry.label}
    given = {choice.label: choice.title for choice in methods if choice.title}
    return {label: title for label, title in (stated | given).items() if title}


def check_measures(protocols: Sequence[Choice]) -> None:
    """Raise RapbenchError for several protocols that measure D_K: a report has one table of it."""
    measures = [choice.label for choice in protocols if layout_of(ProtocolInfo.of(choice.protocol)) == DISTANCE]
    if len(measures) > 1:
        raise RapbenchError(f"protocols {' and '.join(measures)} both measure D_K; give each a run of its own")


def is_control(method: Choice) -> bool:
    """Whether a method looks at no model: others are compared with it."""
    return not method.entry.facts.looks_at_model
