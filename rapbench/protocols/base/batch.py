"""What a protocol is given: some inputs with their heatmaps, and the model to ask."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.random import seed_of
from rapbench.core.signs import Sign
from rapbench.protocols.base.fills import Normalisation
from rapbench.protocols.base.ranking import Ranking, rank_pixels

Step = int | float | str
Output = Literal["logit", "probability"]
OUTPUTS: dict[Output, str] = {"logit": "target logit", "probability": "probability of the target"}  # as headings say it
Forward = Callable[[Tensor], Tensor]
T = TypeVar("T")

# What attributes again, see `Batch.attribute`: (inputs, labels, ids, network or None) -> heatmaps
Attribute = Callable[[Tensor, Tensor, Sequence[str], "nn.Module | None"], Tensor]

# (P,) rows of the batch, (P,) columns among the steps[, the pass's bound] -> inputs of the model, (P, C, *space)
Changed = Callable[..., Tensor]


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

    def of(self, output: Output) -> Tensor:
        """Return the label's logit, or its probability."""
        return self.probability if output == "probability" else self.logit


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
    shared : dict
        What `for_every_method` keeps; one for the batches of all methods on the same inputs.
    known_masks : Tensor, (N, *space) bool, or None
        What `masks` returns; None where a run has no protocol that needs them.
    model : nn.Module, or None
        What is explained; not to be changed. None where heatmaps are ready-made.
    again : callable, or None
        What `attribute` calls; None where heatmaps are ready-made.
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
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    known_masks: Tensor | None = field(default=None, repr=False)
    model: nn.Module | None = field(default=None, repr=False)
    again: Attribute | None = field(default=None, repr=False)
    _known: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def once(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return compute(), computed for the first who asks; several variants and protocols share it by its name."""
        if name not in self._known:
            self._known[name] = compute()
        found: T = self._known[name]
        return found

    def for_every_method(self, name: Hashable, compute: Callable[[], T]) -> T:
        """Return compute(), which the heatmaps do not enter, computed once for all methods on these inputs."""
        if name not in self.shared:
            self.shared[name] = compute()
        found: T = self.shared[name]
        return found

    @property
    def masks(self) -> Tensor:
        """(N, *space) bool: where in each input is what should be found; False throughout where that is not known."""
        if self.known_masks is not None:
            return self.known_masks
        return self.for_every_method(("masks",), lambda: torch.zeros_like(self.heatmaps, dtype=torch.bool))

    @property
    def finite(self) -> Tensor:
        """(N,) whether all relevance of an input is finite, on the device: to read it, wait for the device."""
        return self.once(("finite",), lambda: self.heatmaps.isfinite().flatten(1).all(1))

    def ranking(self, sign: Sign) -> Ranking:
        """Return the ranking of the pixels of one sign; sorted once."""
        return self.once(("ranking", sign), lambda: rank_pixels(self.heatmaps, sign))

    def ranks(self, sign: Sign) -> Tensor:
        """Return the rank of each pixel from 0 on in the order of `ranking`, (N, n)."""
        return self.once(("ranks", sign), lambda: self.ranking(sign).ranks)

    def attribute(
        self,
        *,
        inputs: Tensor | None = None,
        labels: Tensor | None = None,
        ids: Sequence[str] | None = None,
        model: nn.Module | None = None,
    ) -> Tensor:
        """Return the method's heatmaps, (N, *space), of other inputs or labels or by another network, as `heatmaps`.

        What is not given is the batch's own. All N are attributed together, as the batch's own heatmaps were. A heatmap
        that the method refuses to compute is NaN.

        Parameters
        ----------
        inputs : Tensor, (N, C, *space)
        labels : Tensor, (N,)
        ids : sequence of str
            They seed the random numbers of the method. Inputs of their own have ids of their own.
        model : nn.Module
            A network of the same inputs and outputs as `self.model`.

        Raises
        ------
        RapbenchError
            For heatmaps that are ready-made, of which there are no others.
        """
        if self.again is None:
            raise RapbenchError("ready-made heatmaps cannot be computed for other inputs, labels or weights")
        given = (self.inputs if inputs is None else inputs, self.labels if labels is None else labels)
        return self.again(*given, self.ids if ids is None else ids, model)

    def seeds(self, *names: str) -> Tensor:
        """Return (N,) seeds, functions of (run's seed, input, names) alone: equal for all methods."""

        def compute() -> Tensor:
            return torch.tensor([seed_of(self.seed, name, *names) for name in self.ids], device=self.inputs.device)

        return self.for_every_method(("seeds", self.seed, names), compute)

    @torch.inference_mode()
    def ask(
        self,
        changed: Changed,
        steps: Sequence[Step],
        *,
        zero: Literal["clean", "asked"] = "clean",
        bounds: Sequence[int] | None = None,
    ) -> Answers:
        """Ask the model about every input after every step, many in one pass.

        Nothing here waits for the device; `changed` should not either.

        Parameters
        ----------
        changed : callable
            Makes the inputs of one pass, (P, C, *space), of two index tensors on the inputs' device, (P,) int64 each:
            rows of the batch, and columns among the steps.
        steps : sequence
            Of one variant.
        zero : {"clean", "asked"}
            What step 0 stands for: the input as it is, which is known already, or an input to ask about like any other.
        bounds : sequence of int, optional
            By step, a bound on its work, such as the pixels it changes at most. The largest of a pass is then the third
            argument of `changed`, which cannot read it from the columns without waiting for the device.
        """
        asked = [column for column, step in enumerate(steps) if step != 0 or zero == "asked"]
        rows, columns = self._pairs(asked)
        clean = self.clean()
        answers = [(clean.argmax(1), *_outputs(clean, self.labels))]
        for start in range(0, len(rows), self.size):
            part = slice(start, min(start + self.size, len(rows)))
            more = []
            if bounds is not None:
                first, last = part.start // len(self.labels), (part.stop - 1) // len(self.labels)
                more = [max(bounds[column] for column in asked[first : last + 1])]
            logits = self.forward(changed(rows[part], columns[part], *more))
            answers.append((logits.argmax(1), *_outputs(logits, self.labels[rows[part]])))
        places = self._places(asked, len(steps))
        predicted, logit, probability = (torch.cat(parts)[places] for parts in zip(*answers, strict=True))
        return Answers(self.labels, predicted, logit, probability)

    def _pairs(self, asked: list[int]) -> tuple[Tensor, Tensor]:
        """Return the row and the column of every input to ask about, (pairs,) each, column by column."""

        def compute() -> tuple[Tensor, Tensor]:
            device, count = self.inputs.device, len(self.labels)
            rows = torch.arange(count, device=device).repeat(len(asked))
            columns = torch.tensor(asked, dtype=torch.int64, device=device)
            return rows, columns[:, None].expand(-1, count).flatten()

        return self.for_every_method(("pairs", *asked), compute)

    def _places(self, asked: list[int], count: int) -> Tensor:
        """Return where each row's and column's answer stands, (N, count), after the N clean ones in order of pairs."""

        def compute() -> Tensor:
            first = {column: number for number, column in enumerate(asked, start=1)}
            rows = len(self.labels)
            starts = torch.tensor([first.get(column, 0) * rows for column in range(count)], device=self.inputs.device)
            return torch.arange(rows, device=self.inputs.device)[:, None] + starts

        return self.for_every_method(("places", count, *asked), compute)


def _outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the labels' logits and their probabilities, (P,) each; logits: (P, classes). labels: (P,)."""
    places = labels[:, None]
    return logits.gather(1, places)[:, 0], logits.softmax(1).gather(1, places)[:, 0]
