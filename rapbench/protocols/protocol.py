"""What a protocol is: heatmaps in, one number or one curve per input out.

A protocol is a frozen dataclass. Its fields are its options; its metrics say what each number means. All that reads
results (tables, tests, figures) reads it from the metrics and knows no protocol by name.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import ClassVar, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from rapbench.errors import RapbenchError
from rapbench.protocols.batch import Batch, Step

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Metric:
    """One column of a protocol's results, and how it is read.

    Parameters
    ----------
    name : str
        The column, and the metric's name in the results.
    better : mapping of str to {"higher", "lower"}
        By variant, the better method's value. A variant that is not there, and a detail such as a count, has none.
    title : str
        As a heading says it; the name where it is empty.
    unit : str
        Of the mean: "%", "pixels", ...; empty for a number without.
    kind : {"mean", "share", "count"}
        `count`: a whole number, such as of pixels or of a class. `share`: 0 or 1 per input; the mean is a share in per
        cent, with Wilson's interval and McNemar's test. `mean`: any number; the bootstrap over inputs and Wilcoxon's
        signed-rank test.
    axis : {"linear", "log", "share"} or None
        Of the steps in a figure; None for a single number, which has no steps.
    decimals : int
        Of the mean in a table.
    detail : bool
        Whether it is kept with the others and never shown as a result of its own.
    """

    name: str
    better: Mapping[str, Better] = field(default_factory=dict)
    title: str = ""
    unit: str = ""
    kind: Literal["mean", "share", "count"] = "mean"
    axis: Literal["linear", "log", "share"] | None = "linear"
    decimals: int = 2
    detail: bool = False


class Protocol(ABC):
    """Heatmaps of one method to a number or a curve per input.

    Subclasses are frozen, keyword-only dataclasses; each field is an option with a type and a default.

    Attributes
    ----------
    metrics : sequence of Metric
        The columns that `evaluate` returns. A property where they depend on options.
    table : str
        Protocols of one name stand in one table, the first one's value before the others' in brackets.
    step_name : str
        What the steps of a curve count.
    """

    metrics: ClassVar[Sequence[Metric]] = ()
    table: ClassVar[str] = ""
    step_name: ClassVar[str] = "K"

    @abstractmethod
    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return the steps of each variant (a sign, an order, or "") to evaluate for a method with these signs."""

    @abstractmethod
    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return a variant's columns, (N, number of steps) each, by the metrics' names."""

    def asked(self, signs: Sequence[str]) -> int:
        """Return how many answers of the model an input costs, for the progress bar."""
        return sum(step != 0 for steps in self.variants(signs).values() for step in steps)

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
    metrics = list(protocol.metrics)
    if not metrics:
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
    if taken := set(names) & {"row", "variant", "k"}:
        raise RapbenchError(f"protocol {name!r}: a metric cannot be called {min(taken)!r}")
