"""The cells of a run: what is in each, its key, and its place in the store; `fill_cells` computes them."""

import functools
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rapbench.core.errors import RapbenchError
from rapbench.core.precision import Precision
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.subset.manifest import Subset
from rapbench.evaluation.absent import Absent
from rapbench.evaluation.choice import Choice, variants
from rapbench.evaluation.chunk import Chunk, slices_of
from rapbench.evaluation.expected_rows import expected_rows
from rapbench.evaluation.identity import bf16_unit, code_of_choice, evaluation_key, identity_of, joined
from rapbench.evaluation.input_shape import input_shape
from rapbench.evaluation.masks import Masks
from rapbench.evaluation.run_results import results_of
from rapbench.evaluation.run_spec import Spec
from rapbench.evaluation.shard import Shard
from rapbench.model import Model
from rapbench.protocols.base.batch import Forward
from rapbench.results.run import Run
from rapbench.store.cell import Cell, Expected, digest_of
from rapbench.store.heatmaps import GALLERY, Heatmaps


@dataclass(frozen=True)
class Size:
    """Images attributed together, and perturbed images in one pass."""

    chunk: int
    batch: int


class Job:
    """The cells of a run."""

    def __init__(
        self,
        spec: Spec,
        model: Model,
        dataset: Dataset,
        subset: Subset,
        device: torch.device,
        store: Path,
        methods: list[Choice],
        protocols: list[Choice],
        shard: Shard,
        size: Size,
        masks: Masks | None = None,
        absent: Absent | None = None,
    ):
        self.spec, self.model, self.dataset, self.subset, self.device = spec, model, dataset, subset, device
        self.methods, self.protocols = {method.label: method for method in methods}, protocols
        self.shard, self.size, self.masks = shard, size, masks
        self.absent = absent or Absent(())
        rows = len(subset.rows)
        self.slices = slices_of(rows, size.chunk)
        common = evaluation_key(model, device) | {
            "subset": subset.identity,
            "upright": dataset.upright,
            "seed": spec.seed,
            "chunk": size.chunk,
        }
        self.codes = {kind: {choice.label: code_of_choice(choice, model) for choice in chosen}
                      for kind, chosen in (("method", methods), ("protocol", protocols))}  # fmt: skip
        keys = {label: self._with(common, "method", method) for label, method in self.methods.items()}
        self.store, self.keys = store, keys
        self.kept = {label: Heatmaps(store, key, spec.heatmaps) for label, key in keys.items()} if (
            spec.heatmaps) else {}  # fmt: skip
        self.shown = {label: Heatmaps(store, key | {"images": spec.gallery}, "float16", GALLERY)
                      for label, key in keys.items()}  # fmt: skip
        rounded = {"heatmaps": spec.heatmaps} if self.kept and spec.heatmaps != "float32" else {}
        about = {"model": model.facts.name, "data": dataset.name, "images": str(rows), "chunks": str(len(self.slices))}
        self.cells = {
            (label, protocol.label): Cell(
                store,
                self._key(keys[label] | rounded, protocol),
                len(self.slices),
                about | {"method": label, "protocol": protocol.label},
                expected=functools.partial(self._expected, method, protocol),
            )
            for label, method in self.methods.items()
            for protocol in protocols
            if variants(method, protocol)
        }
        if not self.cells:
            raise RapbenchError("nothing to run: no method has relevance of a sign that a protocol lists K for")

    def unfinished(self, refused: Collection[str]) -> int:
        """Return how many chunks are missing in the cells of methods that can be used: those of other shards."""
        cells = [cell for (label, _), cell in self.cells.items() if label not in refused]
        return sum(not all(cell.has(number) for cell in cells) for number in range(len(self.slices)))

    @property
    def code(self) -> dict[str, str]:
        """A short hash of the code of the model, of its preprocessing and of the evaluation."""
        codes = next(iter(self.keys.values()))["code"]
        return {part: digest_of(code)[:16] for part, code in codes.items() if part != "method"}

    @property
    def versions(self) -> dict[str, str]:
        """The versions of the packages that any of the cells depends on."""
        return {name: version for cell in self.cells.values() for name, version in sorted(cell.key["versions"].items())}

    def identities(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return what each `method` or `protocol` is, by label, with a short hash of its code."""
        chosen = self.methods.values() if kind == "method" else self.protocols
        return {choice.label: identity_of(choice) | {"code": digest_of(self.codes[kind][choice.label].key)[:16]}
                for choice in chosen}  # fmt: skip

    def files(self, refused: Collection[str]) -> list[str]:
        """Return the names of the files in the store that the results and the heatmaps to show are in."""
        cells = [str(cell.file and cell.file.name) for cell in self.cells.values()]
        return cells + [heatmaps.folder.name for label, heatmaps in self.shown.items() if label not in refused]

    def results(self) -> Run:
        """Return the per-image results of all whole cells."""
        for cell in self.cells.values():
            cell.refresh()
        tables = {place: cell.table for place, cell in self.cells.items() if cell.table is not None}
        pixels = math.prod(input_shape(self.model, self.dataset)[1:])
        return results_of(self.model.facts.name, self.dataset.name, list(self.methods.values()), self.protocols,
                          self.subset, tables, pixels)  # fmt: skip

    def chunk(self, number: int, pixels: torch.Tensor, forward: Forward) -> Chunk:
        """Return a chunk, or its first images, on the device. pixels: (N, C, *space), preprocessed."""
        model, rows, seed, size = self.model, self.subset.rows, self.spec.seed, self.size
        return Chunk.of(model, forward, number, size.chunk, rows, pixels, self.device, seed, size.batch, self.masks)

    def _expected(self, method: Choice, protocol: Choice, number: int) -> Expected:
        return expected_rows(method, protocol, self.slices[number].start, self.count(number))

    def _key(self, key: dict[str, Any], protocol: Choice) -> dict[str, Any]:
        key = self._with(key, "protocol", protocol)
        asks = protocol.protocol
        if not asks.asked(("positive", "negative")) and not asks.asked_once():
            return key
        unit = {"unit": bf16_unit(self.device)} if self.spec.precision is Precision.bf16 else {}
        return key | {"precision": self.spec.precision.name, "batch": self.size.batch} | unit

    def _with(self, key: dict[str, Any], kind: str, choice: Choice) -> dict[str, Any]:
        return joined(key | {kind: identity_of(choice)}, kind, self.codes[kind][choice.label])

    def count(self, number: int) -> int:
        """Return how many images a chunk has."""
        return int(self.slices[number].stop - self.slices[number].start)
