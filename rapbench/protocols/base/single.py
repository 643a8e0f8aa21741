"""Protocols with single numbers for each input instead of curves."""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from rapbench.protocols.base.batch import Batch, Step
from rapbench.protocols.base.protocol import Protocol


class Single(Protocol):
    """One number an input by each metric; by default the model is not asked."""

    def variants(self, signs: Sequence[str]) -> dict[str, list[Step]]:
        """Return one variant with one number, whatever the signs."""
        return {"": [""]}

    def evaluate(self, batch: Batch, variant: str, steps: list[Step]) -> dict[str, Tensor]:
        """Return the numbers, (N, 1) each."""
        return {name: values[:, None] for name, values in self.measured(batch).items()}

    @abstractmethod
    def measured(self, batch: Batch) -> dict[str, Tensor]:
        """Return the numbers by the metrics' names, (N,) each; NaN where one is not defined."""

    def asked(self, signs: Sequence[str]) -> int:
        """Return 0: a protocol that asks the model says how often."""
        return 0
