"""What a protocol is given: some inputs with their heatmaps, and the model to ask."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from rapbench.draws import seed_of
from rapbench.protocols._fills import Normalisation
from rapbench.protocols.ranking import Ranking, Sign, rank_pixels

Step = int | float | str
Forward = Callable[[Tensor], Tensor]
T = TypeVar("T")

# (row numbers in the batch, column numbers among the steps) -> inputs of the model, (P, C, *space)
Changed = Callable[[list[int], list[int]], Tensor]


@dataclass(frozen=True)
class Answers:
    """What the model says of N inputs after S steps, (N, S) each: the class it predicts, and the label's output."""

    labels: Tensor
    predicted: Tensor
    logit: Tensor
    probability: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether the label is predicted."""
        return self.predicted == self.labels[:, None]


@dataclass
class Batch:
    """N inputs with one method's heatmaps.

    Parameters
    ----------
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    labels : Tensor, (N,)
    heatmaps : Tensor, (N, *space)
        Relevance summed over channels.
    forward : callable
        (P, C, *space) inputs to (P, classes) logits.
    clean : callable
        Returns the (N, classes) logits of the unchanged inputs; called where a protocol asks the model.
    ids : sequence of str
        What identifies each input, whatever batch it is in.
    seed : int
        Of all draws.
    normalisation : pair of Tensor, (C,) each, or None
        Mean and standard deviation of the channels for pixel values in 0..1.
    size : int
        Inputs in one forward pass.
    """

    inputs: Tensor
    labels: Tensor
    heatmaps: Tensor
    forward: Forward
    clean: Callable[[], Tensor]
    ids: Sequence[str]
    seed: int = 0
    normalisation: Normalisation | None = None
    size: int = 8
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return compute(), computed for the first who asks; several variants and protocols share it by its name."""
        if name not in self._known:
            self._known[name] = compute()
        return self._known[name]

    def ranking(self, sign: Sign) -> Ranking:
        """Return the ranking of the pixels of one sign; sorted once."""
        return self.once(("ranking", sign), lambda: rank_pixels(self.heatmaps, sign))

    def seeds(self, *names: str) -> Tensor:
        """Return (N,) seeds, functions of (run's seed, input, names) alone: equal for all methods."""
        return torch.tensor([seed_of(self.seed, name, *names) for name in self.ids], device=self.inputs.device)

    @torch.inference_mode()
    def ask(self, changed: Changed, steps: Sequence[Step], *, zero: Literal["clean", "asked"] = "clean") -> Answers:
        """Ask the model about every input after every step, many in one pass.

        Parameters
        ----------
        changed : callable
            Makes the inputs of one pass.
        steps : sequence
            Of one variant.
        zero : {"clean", "asked"}
            What step 0 stands for: the input as it is, which is known already, or an input to ask about like any other.
        """
        rows, count = len(self.labels), len(steps)
        clean = self.clean()
        known = (clean.argmax(1), *_outputs(clean, self.labels))
        predicted, logit, probability = (values[:, None].repeat(1, count) for values in known)
        asked = [column for column, step in enumerate(steps) if step != 0 or zero == "asked"]
        pairs = [(row, column) for column in asked for row in range(rows)]
        for start in range(0, len(pairs), self.size):
            which, columns = (list(numbers) for numbers in zip(*pairs[start : start + self.size], strict=True))
            logits = self.forward(changed(which, columns))
            predicted[which, columns] = logits.argmax(1)
            logit[which, columns], probability[which, columns] = _outputs(logits, self.labels[which])
        return Answers(self.labels, predicted, logit, probability)


def _outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels' logits and their probabilities, (P,) each; logits: (P, classes). labels: (P,)."""
    places = labels[:, None]
    return logits.gather(1, places)[:, 0], logits.softmax(1).gather(1, places)[:, 0]
