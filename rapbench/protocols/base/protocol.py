"""What a protocol is: heatmaps in, one number or one curve per input out.

A protocol is a frozen dataclass. Its fields are its options; its metrics say what each number means. All that reads
results (tables, tests, figures) reads it from the metrics and knows no protocol by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from typing import Any, ClassVar, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from rapbench.core.errors import RapbenchError
from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.metric import Metric

RESERVED = {"row", "input", "label", "method", "variant", "k"}  # columns that stand beside the metrics


class Protocol(ABC):
    """Heatmaps of one method to a number or a curve per input.

    Subclasses are frozen, keyword-only dataclasses; each field is an option with a type and a default.

    Attributes
    ----------
    metrics : sequence of Metric
        The columns that `evaluate` returns. A property where they depend on options.
    summaries : sequence of Metric
        The single numbers that `summary` makes of the curves, if any.
    table : str
        Protocols of one name stand in one table, the first one's value before the others' in brackets.
    step_name : str
        What the steps of a curve count.
    needs_masks : bool
        Whether it needs to know where in the inputs is what should be found.
    """

    metrics: ClassVar[Sequence[Metric]] = ()
    summaries: ClassVar[Sequence[Metric]] = ()
    table: ClassVar[str] = ""
    step_name: ClassVar[str] = "K"
    needs_masks: ClassVar[bool] = False

    @abstractmethod
    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the steps of each variant (a sign, an order, or "") to evaluate for a method with these signs."""

    @abstractmethod
    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return a variant's columns, (N, number of steps) each, by the metrics' names."""

    def summary(self, curves: Mapping[str, np.ndarray], steps: Sequence[str]) -> dict[str, np.ndarray]:
        """Return single numbers per input, (N,) each, made of a variant's curves; by the names of `summaries`.

        curves: by metric, (N, number of steps) float64. steps: as text.
        """
        return {}

    def asked(self, signs: Sequence[str]) -> int:
        """Return how many answers of the model an input costs for each method, for the progress bar."""
        return sum(step != 0 for steps in self.variants(signs).values() for step in steps)

    def asked_once(self) -> int:
        """Return how many answers an input costs in all: those that `Batch.for_every_method` keeps for all methods."""
        return 0

    def recomputed(self) -> int:
        """Return how many further heatmaps of an input `Batch.attribute` computes for each method."""
        return 0

    @property
    def needs_normalisation(self) -> bool:
        """Whether it needs the mean and standard deviation of the model's channels."""
        return False

    def fitted(self, space: Sequence[int]) -> dict[str, Any]:
        """Return the options, if any, that have other values for inputs with these spatial dimensions."""
        return {}

    def check(self, space: Sequence[int]) -> None:  # noqa: B027  most take any
        """Raise RapbenchError where inputs with these spatial dimensions cannot be evaluated."""


def check_protocol(name: str, made: object) -> None:
    """Raise RapbenchError for what is registered as a protocol and is none."""
    if not isinstance(made, type) or not issubclass(made, Protocol):
        raise RapbenchError(f"protocol {name!r} must be a class derived from rapbench.Protocol, got {made!r}")
    if not is_dataclass(made) or not made.__dataclass_params__.frozen:
        raise RapbenchError(f"protocol {name!r} must be a frozen dataclass: @dataclass(frozen=True, kw_only=True)")
    if missing := sorted(made.__abstractmethods__):
        raise RapbenchError(f"protocol {name!r} lacks {', '.join(missing)}")
    try:
        protocol = made()
    except TypeError as error:
        raise RapbenchError(f"protocol {name!r}: every option needs a default ({error})") from None
    check_metrics(name, protocol)


def check_metrics(name: str, protocol: Protocol) -> None:
    """Raise RapbenchError for a protocol without metrics, with two of one name, or with one that is mistyped."""
    metrics = [*protocol.metrics, *protocol.summaries]
    if not protocol.metrics:
        raise RapbenchError(f"protocol {name!r} has no metrics; list at least one rapbench.Metric")
    for metric in metrics:
        if not isinstance(metric, Metric):
            raise RapbenchError(f"protocol {name!r}: metrics must be rapbench.Metric, got {metric!r}")
        for fact, kind in get_type_hints(Metric).items():
            value = getattr(metric, fact)
            try:
                TypeAdapter(kind).validate_python(value, strict=True)
            except ValidationError as error:
                wrong = error.errors()[0]["msg"]
                raise RapbenchError(f"protocol {name!r}, metric {metric.name!r}: {fact}={value!r}: {wrong}") from None
    names = [metric.name for metric in metrics]
    if twice := next((metric for metric in names if names.count(metric) > 1), None):
        raise RapbenchError(f"protocol {name!r} has two metrics {twice!r}")
    if taken := set(names) & RESERVED:
        raise RapbenchError(f"protocol {name!r}: a metric cannot be called {min(taken)!r}")
