"""A few images on the device: attributed, perturbed and classified again, for any methods and protocols."""

import functools
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from rapbench.core.errors import MethodError, RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.core.memory_format import channels_last
from rapbench.core.package import FOLDER
from rapbench.evaluation.answers import NotFinite, refuse_not_finite, table_of
from rapbench.evaluation.choice import Choice, variants
from rapbench.evaluation.masks import Masks
from rapbench.heatmaps.summed import heatmaps_of
from rapbench.methods import attribute
from rapbench.methods.heatmaps import ReadyMade
from rapbench.protocols.base.batch import Batch, Forward
from rapbench.protocols.base.fills import Normalisation
from rapbench.protocols.base.rounding import restored, rounded

if TYPE_CHECKING:
    from rapbench.data.subset.manifest import Row
    from rapbench.model import Model
    from rapbench.store.heatmaps import Heatmaps, Tap


@dataclass
class Chunk:
    """Images with what every method and protocol shares. number: of the chunk. first: the place of its first row.

    shared: what does not depend on the method, computed once: seeds, indices. known: masks of the run's inputs.
    attributed: is told how many forward passes' worth of attribution a protocol has just had. missed: is told which
    method could not explain again, and why; its values are undefined.
    """

    model: "Model"
    forward: Forward
    number: int
    first: int
    rows: "list[Row]"
    images: Tensor
    seed: int
    batch: int
    shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    known: Masks | None = None
    attributed: Callable[[float], None] = field(default=lambda passes: None, repr=False)
    missed: Callable[[str, str], None] = field(default=lambda label, reason: None, repr=False)

    @classmethod
    def of(
        cls,
        model: "Model",
        forward: Forward,
        number: int,
        chunk: int,
        rows: "list[Row]",
        pixels: Tensor,
        device: torch.device,
        seed: int,
        batch: int,
        known: Masks | None = None,
    ) -> "Chunk":
        """Return a chunk, or its first images, on the device. rows: all. pixels: (N, C, *space), preprocessed."""
        first = slices_of(len(rows), chunk)[number].start
        placed = channels_last(pixels.to(device))
        return cls(model, forward, number, first, rows[first : first + len(pixels)], placed, seed, batch, known=known)

    @functools.cached_property
    def ids(self) -> list[str]:
        """What identifies each image, whatever file holds it."""
        return [row.sha256 for row in self.rows]

    @functools.cached_property
    def labels(self) -> Tensor:
        """(N,) class indices."""
        return torch.tensor([row.label for row in self.rows], device=self.images.device)

    @functools.cached_property
    def masks(self) -> Tensor | None:
        """(N, *space) bool: where in each image is what should be found; None where no protocol asks for it."""
        return None if self.known is None else self.known.of(self.rows).to(self.images.device)

    @functools.cached_property
    def normalisation(self) -> Normalisation | None:
        """The channels' mean and standard deviation, (C,) each, on the device; None where they are not known."""
        known = self.model.normalisation
        return known and (known[0].to(self.images.device), known[1].to(self.images.device))

    @functools.cached_property
    def clean(self) -> Tensor:
        """(N, classes) logits of the images as they are. RapbenchError for a label that is not among the classes."""
        with torch.inference_mode():
            logits = self.forward(self.images)
        for row in self.rows:
            if row.label >= logits.shape[1]:
                raise RapbenchError(
                    f"{row.file} has label {row.label}, but {self.model.facts.name} has {logits.shape[1]} classes; is "
                    "the manifest another model's?"
                )
        return logits

    def evaluate(
        self, method: Choice, wanted: list[Choice], kept: "Heatmaps | Tap | None"
    ) -> Iterator[tuple[Choice, dict[str, np.ndarray]]]:
        """Attribute once, then yield each wanted protocol's columns, over all variants that it has for the method.

        kept: where heatmaps are looked for and kept. Raises RapbenchError when the method cannot be used.
        """
        # Unless heatmaps are kept, whether they are finite is read with the first protocol's numbers.
        heatmaps = self.heatmaps(method, kept) if kept else self._attributed(method)
        ready = method.ready_made
        again = None if ready else functools.partial(self._again, method, kept.number if kept else None)
        batch = Batch(
            self.images, self.labels, heatmaps, self.forward, lambda: self.clean, self.ids, self.seed,
            self.normalisation, self.batch, self.shared, self.masks, None if ready else self.model, again,
        )  # fmt: skip
        for protocol in wanted:
            try:
                columns = table_of(batch, protocol.protocol, variants(method, protocol))
            except NotFinite as error:
                raise self._refused(error) from None
            except Exception as error:  # a user's protocol raises what it likes
                if out_of_memory(error):
                    raise
                self._refuse_not_finite(batch.finite)  # which it may not have been made for
                if isinstance(error, RapbenchError):
                    raise
                raise RapbenchError(f"protocol {protocol.label!r}: {_said(error, protocol)}") from error
            yield protocol, columns | {"row": columns["row"] + self.first}

    def heatmaps(self, method: Choice, kept: "Heatmaps | Tap | None") -> Tensor:
        """Return (N, *space) heatmaps: kept ones, or computed and kept. Raises RapbenchError as `evaluate` does."""
        if kept and (known := kept.read(self.number, (len(self.rows), *self.images.shape[2:]))) is not None:
            return known.to(self.images.device)
        heatmaps = self._attributed(method)
        self._refuse_not_finite(heatmaps.isfinite().flatten(1).all(1))
        return kept.write(self.number, heatmaps) if kept else heatmaps

    def _attributed(self, method: Choice) -> Tensor:
        """Return (N, *space) heatmaps, finite or not."""
        try:
            return self._heatmaps(method)
        except (Exception, SystemExit) as error:  # a user's method raises what it likes
            if out_of_memory(error):
                raise
            raise MethodError(_said(error, method)) from error

    def _refuse_not_finite(self, finite: Tensor) -> None:
        try:
            refuse_not_finite(finite)
        except NotFinite as error:
            raise self._refused(error) from None

    def _refused(self, error: NotFinite) -> MethodError:
        return MethodError(f"NaN or infinite relevance for image {self.rows[error.row].file}")

    def _heatmaps(self, method: Choice) -> Tensor:
        """Return (N, *space) float32 heatmaps, as they are kept, whether they are kept or not."""
        if isinstance(method.entry, ReadyMade) and method.entry.matched:
            return method.entry.matched.of(self.rows).to(self.images.device)
        return self._computed(method, self.model, self.images, self.labels, self.ids)

    def _computed(self, method: Choice, model: nn.Module, images: Tensor, labels: Tensor, ids: Sequence[str]) -> Tensor:
        options = method.options | method.made
        relevance = attribute(model, images, labels, method.entry, image_ids=ids, seed=self.seed, **options)
        if not relevance.is_floating_point():
            raise RapbenchError(f"relevance must be floating-point numbers, got {relevance.dtype}")
        return heatmaps_of(relevance).float()

    def _again(
        self,
        method: Choice,
        number: str | None,
        images: Tensor,
        labels: Tensor,
        ids: Sequence[str],
        model: nn.Module | None,
    ) -> Tensor:
        """Return (N, *space) heatmaps, see `Batch.attribute`. number: the format in which the first ones are kept."""
        try:
            found = self._computed(method, self.model if model is None else model, images, labels, ids)
        except Exception as error:  # such as for weights that a method's own file does not fit
            if out_of_memory(error):
                raise
            self.missed(method.label, _said(error, method))
            found = torch.full_like(images[:, 0], torch.nan, dtype=torch.float32)
        self.attributed(method.entry.facts.passes * len(images))
        finite = found.isfinite().flatten(1).all(1).view(-1, *[1] * (found.dim() - 1))
        if number not in (None, "float32"):
            found = restored(*rounded(torch.where(finite, found, 0), number)).to(found)
        return torch.where(finite, found, torch.nan)


def slices_of(rows: int, chunk: int) -> list[slice]:
    """Return which of the rows each chunk holds."""
    return [slice(start, min(start + chunk, rows)) for start in range(0, rows, chunk)]


def _said(error: BaseException, choice: Choice) -> str:
    """Return what an error says; of one that is no RapbenchError, also its class, and where in the user's file."""
    if isinstance(error, RapbenchError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    where = next((frame for frame in reversed(frames) if _is_theirs(frame.filename, choice)), frames[-1])
    text = " ".join(str(error).split())
    return f"{type(error).__name__}{': ' * bool(text)}{text} ({where.filename}:{where.lineno})"


def _is_theirs(file: str, choice: Choice) -> bool:
    """Whether a file is a method's own, or of a user's code: neither a library's nor the runner's."""
    try:
        own = inspect.getsourcefile(inspect.unwrap(choice.entry.function))
    except TypeError:  # a callable that is no function
        own = None
    places = (sysconfig.get_path("stdlib"), str(FOLDER))
    library = any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
    return file == own or not (library or file.startswith((*places, "<")))
