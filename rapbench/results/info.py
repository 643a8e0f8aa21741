"""What is to be known of a run's methods and protocols to read its results, without their code."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rapbench.protocols.base.metric import Metric

if TYPE_CHECKING:
    from rapbench.protocols.base.protocol import Protocol


@dataclass(frozen=True)
class MethodInfo:
    """Of a method in a run.

    Parameters
    ----------
    title : str
        What tables call it; its label where it is empty.
    control : bool
        Whether it looks at no model: others are compared with it.
    options : mapping
        Those that are not the default.
    titled : tuple of str
        Of these, the ones that the title stands for: those of a variant that the run gave a title.
    """

    title: str = ""
    control: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    titled: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProtocolInfo:
    """Of a protocol in a run.

    Parameters
    ----------
    metrics : tuple of Metric
        Of each step.
    summaries : tuple of Metric
        Single numbers made of the curves.
    table : str
        Protocols of one name stand in one table.
    steps : str
        What the steps of a curve count.
    options : mapping
        Those that are not the default.
    """

    metrics: tuple[Metric, ...]
    summaries: tuple[Metric, ...] = ()
    table: str = ""
    steps: str = "K"
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, protocol: "Protocol", options: Mapping[str, Any] | None = None) -> "ProtocolInfo":
        """Return what is to be known of a protocol."""
        return cls(
            tuple(protocol.metrics), tuple(protocol.summaries), protocol.table, protocol.step_name, options or {}
        )

    @property
    def shown(self) -> tuple[Metric, ...]:
        """The metrics that are results of their own."""
        return tuple(metric for metric in (*self.metrics, *self.summaries) if not metric.detail)

    def ranked(self, variant: str) -> tuple[Metric, ...]:
        """The metrics that rank methods in a variant: those that say which value is better there.

        A summary that says so stands for the curves that it is made of, which would count the protocol twice.
        """
        for metrics in (self.summaries, self.metrics):
            if found := tuple(metric for metric in metrics if variant in metric.better and not metric.detail):
                return found
        return ()


def option_text(options: Mapping[str, Any]) -> str:
    """Return options as one text, `name=value, ...`, sorted by name."""
    return ", ".join(f"{name}={_plain(value)}" for name, value in sorted(options.items()))


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_plain(item)}" for name, item in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return str(value)
