"""A few images on the device: attributed, perturbed and classified again, for any methods and protocols."""

import functools
import inspect
import sysconfig
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rapbench
from rapbench.data._manifest import Row
from rapbench.draws import seed_of
from rapbench.errors import MethodError, RapbenchError
from rapbench.limits import out_of_memory
from rapbench.methods import attribute
from rapbench.protocols.ranking import Ranking, heatmaps_of, rank_pixels
from rapbench.runner.choice import Choice, lists
from rapbench.runner.evaluate import Forward, measure, perturb_and_predict, replace_and_predict
from rapbench.store.heatmaps import Heatmaps, Tap
from rapbench.zoo._model import ZooModel


@dataclass
class Chunk:
    """Images with what every method and protocol shares. number: of the chunk. first: the place of its first row."""

    model: ZooModel
    forward: Forward
    number: int
    first: int
    rows: list[Row]
    images: Tensor
    seed: int
    batch: int

    @functools.cached_property
    def labels(self) -> Tensor:
        """(N,) class indices."""
        return torch.tensor([row.label for row in self.rows], device=self.images.device)

    @functools.cached_property
    def clean(self) -> Tensor:
        """(N, classes) logits of the images as they are."""
        with torch.inference_mode():
            return self.forward(self.images)

    @functools.cached_property
    def seeds(self) -> Tensor:
        """(N,) what an image's draws in a perturbation depend on: the run's seed and its content, and nothing else."""
        return torch.tensor([seed_of(self.seed, row.sha256) for row in self.rows], device=self.images.device)

    def evaluate(
        self, method: Choice, wanted: list[Choice], kept: Heatmaps | Tap | None
    ) -> Iterator[tuple[Choice, dict[str, np.ndarray]]]:
        """Attribute once, then yield each wanted protocol's columns, over all signs that the method has or all orders.

        kept: where heatmaps are looked for and kept. Raises RapbenchError when the method cannot be used.
        """
        heatmaps = self.heatmaps(method, kept)
        ranked = functools.cache(functools.partial(rank_pixels, heatmaps))
        for protocol in wanted:
            if protocol.entry.facts["kind"] == "regions":
                which, found = "order", self._regions(method, protocol, heatmaps)
            else:
                which, found = "sign", {sign: self._protocol(protocol, ranked(sign), ks)
                                        for sign, ks in lists(method, protocol).items()}  # fmt: skip
            parts = []
            for name, columns in found.items():
                names = np.full(len(columns["row"]), name)
                parts.append({"row": columns.pop("row") + self.first, which: names} | columns)
            yield protocol, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def heatmaps(self, method: Choice, kept: Heatmaps | Tap | None) -> Tensor:
        """Return (N, *space) heatmaps: kept ones, or computed and kept. Raises RapbenchError as `evaluate` does."""
        if kept and (known := kept.read(self.number, (len(self.rows), *self.images.shape[2:]))) is not None:
            return known.to(self.images.device)
        ids = [row.sha256 for row in self.rows]
        name, options = method.entry.name, method.options
        try:
            relevance = attribute(self.model, self.images, self.labels, name, image_ids=ids, seed=self.seed, **options)
            heatmaps = heatmaps_of(relevance)
            finite = heatmaps.isfinite().flatten(1).all(1).tolist()
        except (Exception, SystemExit) as error:  # a user's method raises what it likes
            if out_of_memory(error):
                raise
            raise MethodError(_said(error, method)) from error
        for row, fine in zip(self.rows, finite, strict=True):
            if not fine:
                raise MethodError(f"NaN or infinite relevance for image {row.file}")
        return kept.write(self.number, heatmaps) if kept else heatmaps

    def _protocol(self, protocol: Choice, ranking: Ranking, ks: list[int | str]) -> dict[str, np.ndarray]:
        function = self._function(protocol)
        if protocol.entry.facts["kind"] == "measure":
            return measure(function, ranking, ks, self.images.shape[2:], protocol.entry.name)
        return perturb_and_predict(
            self.forward, function, self.images, self.labels, self.clean, ranking, ks, self.seeds, self.batch
        )

    def _regions(self, method: Choice, protocol: Choice, heatmaps: Tensor) -> dict[str, dict[str, np.ndarray]]:
        # Neither method nor order: a region becomes the same in all of them, and the random order is one.
        seeds = [seed_of(self.seed, row.sha256, protocol.entry.name) for row in self.rows]
        regions = self._function(protocol)(self.images, heatmaps, torch.tensor(seeds, device=self.images.device))
        return {
            order: replace_and_predict(self.forward, regions, order, steps, self.labels, self.clean, self.batch)
            for order, steps in lists(method, protocol).items()
        }

    def _function(self, protocol: Choice) -> Callable[..., Any]:
        """Return a protocol's function with its options, and with what it asks for of the model."""
        moments = {"normalisation": self.model.transform.normalisation}
        given = {name: value for name, value in moments.items() if name in protocol.entry.options}
        function = functools.partial(protocol.entry.function, **protocol.options | given)

        @functools.wraps(protocol.entry.function)
        def called(*values: Any) -> Any:
            try:
                return function(*values)
            except Exception as error:  # a user's protocol raises what it likes
                if out_of_memory(error) or isinstance(error, RapbenchError):
                    raise
                raise RapbenchError(f"protocol {protocol.label!r}: {_said(error, protocol)}") from error

        return called


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
    code = getattr(inspect.unwrap(choice.entry.function), "__code__", None)
    places = (sysconfig.get_path("stdlib"), str(Path(rapbench.__file__).parent))
    library = any(part in ("site-packages", "dist-packages") for part in Path(file).parts)
    return (code is not None and file == code.co_filename) or not (library or file.startswith((*places, "<")))
