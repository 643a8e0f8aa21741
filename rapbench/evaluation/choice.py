"""A method or a protocol that a run has chosen, and at which steps a protocol evaluates a method."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from rapbench.core.errors import RapbenchError

if TYPE_CHECKING:
    from rapbench.protocols.base.batch import Step
    from rapbench.protocols.base.protocol import Protocol
    from rapbench.registry import Entry


@dataclass(frozen=True)
class Choice:
    """A method or protocol as a run uses it: its label in the tables, its registry entry, and its options.

    files: the SHA-256 of each file that an option names, or stands for by default. title: what tables call it.
    made: options whose value the run made itself, such as a file; files holds what is in it. remark: a sentence that
    reports say of it.
    """

    label: str
    entry: "Entry[Any]"
    options: dict[str, Any]
    files: dict[str, str] = field(default_factory=dict)
    title: str = ""
    made: dict[str, Any] = field(default_factory=dict)
    remark: str = ""

    @cached_property
    def protocol(self) -> "Protocol":
        """The protocol, made with its options. Raises RapbenchError for options that make no sense together."""
        try:
            protocol: Protocol = self.entry.function(**self.options)
        except RapbenchError as error:
            raise RapbenchError(f"protocol {self.label!r}: {error}") from error
        return protocol

    @property
    def ready_made(self) -> bool:
        """Whether it stands for heatmaps that others computed, which cannot be computed anew."""
        from rapbench.methods.heatmaps import ReadyMade  # loads torch

        return isinstance(self.entry, ReadyMade)

    def set_to(self, option: str) -> Any:
        """Return an option's value, the default where it is not given."""
        return (self.entry.options | self.options)[option]


def variants(method: Choice, protocol: Choice) -> "dict[str, list[Step]]":
    """Return the steps of each variant of a protocol that a method has; ready-made heatmaps are not computed anew."""
    if protocol.protocol.recomputed() and method.ready_made:
        return {}
    return protocol.protocol.variants(method.entry.facts.signs)
