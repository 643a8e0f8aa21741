"""The cells of a run, and the loop that fills them chunk by chunk."""

import functools
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig
from torch import Tensor
from tqdm import tqdm

from rapbench.data._dataset import Dataset
from rapbench.data._images import load_images
from rapbench.data._manifest import Subset
from rapbench.draws import seed_of
from rapbench.errors import RapbenchError
from rapbench.methods import attribute
from rapbench.protocols.ranking import Ranking, Sign, heatmaps_of, rank_pixels
from rapbench.runner.choice import Choice
from rapbench.runner.device import default_batch
from rapbench.runner.evaluate import forward_of, measure, perturb_and_predict
from rapbench.runner.identity import machine_kind, versions
from rapbench.runner.store import Cell
from rapbench.zoo._model import ZooModel


class Job:
    """The cells of a run and the loop that fills them."""

    def __init__(
        self,
        config: DictConfig,
        model: ZooModel,
        dataset: Dataset,
        subset: Subset,
        device: torch.device,
        store: Path,
        chosen_methods: list[Choice],
        chosen_protocols: list[Choice],
    ):
        self.config, self.model, self.dataset, self.subset, self.device = config, model, dataset, subset, device
        self.methods, self.protocols = chosen_methods, chosen_protocols
        self.batch = config.batch or default_batch(device)
        self.forward = forward_of(model, config.precision)
        size = config.chunk
        self.slices = [slice(start, start + size) for start in range(0, len(subset.rows), size)]
        common = {
            "weights": model.weights_sha256,
            "subset": subset.identity,
            "transform": repr(model.transform),
            "upright": dataset.upright,
            "seed": config.seed,
            "chunk": size,
            "machine": machine_kind(device),
            "versions": versions(),
        }
        self.cells = {
            (method.label, protocol.label): Cell(
                store, common | {"method": method.identity} | self._protocol_key(protocol), len(self.slices)
            )
            for method in chosen_methods
            for protocol in chosen_protocols
            if _lists(method, protocol)
        }

    def compute(self) -> None:
        """Fill every cell, chunk by chunk; what is in the store already is not computed again."""
        work = {
            (number, method.label): [
                protocol
                for protocol in self.protocols
                if (cell := self.cells.get((method.label, protocol.label))) and not cell.has(number)
            ]
            for number in range(len(self.slices))
            for method in self.methods
        }
        todo = {key: wanted for key, wanted in work.items() if wanted}
        by_label = {method.label: method for method in self.methods}
        cost = {key: self._passes(by_label[key[1]], wanted) * self._size(key[0]) for key, wanted in todo.items()}
        numbers = sorted({number for number, _ in todo})
        slices = [self.slices[number] for number in numbers]
        bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} left"
        with (
            closing(load_images(self.subset, self.dataset, self.model.transform, slices)) as images,
            tqdm(total=sum(cost.values()), disable=not todo, bar_format=bar_format, dynamic_ncols=True) as bar,
        ):
            for number, pixels in zip(numbers, images, strict=True):
                chunk = Chunk(self, number, pixels)
                for label, chosen in ((label, protocols) for (n, label), protocols in todo.items() if n == number):
                    bar.set_description_str(f"{self.model.facts.name} · {label}")
                    for protocol, columns in chunk.evaluate(by_label[label], chosen):
                        self.cells[label, protocol.label].write(number, columns)
                    bar.update(cost[number, label])
            bar.set_description_str(f"{self.model.facts.name} · done")
        for cell in self.cells.values():
            cell.finish()  # a run killed between the last chunk and the join

    def results(self, kind: str) -> pd.DataFrame:
        """Return the per-image results of all protocols of a kind, labelled for the tables."""
        frames = []
        for method in self.methods:
            for protocol in self.protocols:
                cell = self.cells.get((method.label, protocol.label))
                if cell and protocol.entry.facts["kind"] == kind:
                    frame = cell.read().to_pandas().sort_values("sign", kind="stable", ascending=False)
                    rows = [self.subset.rows[row] for row in frame.pop("row")]
                    frame.insert(0, "image", [row.file for row in rows])
                    frame.insert(1, "label", [row.label for row in rows])
                    frame.insert(2, "method", method.label)
                    frame.insert(4, "perturbation", protocol.label)
                    frames.append(frame)
        return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()

    def _protocol_key(self, protocol: Choice) -> dict[str, Any]:
        perturbs = protocol.entry.facts["kind"] == "perturbation"
        evaluated = {"precision": self.config.precision.name, "batch": self.batch} if perturbs else {}
        return {"protocol": protocol.identity} | evaluated

    def _size(self, number: int) -> int:
        return len(self.subset.rows[self.slices[number]])

    def _passes(self, method: Choice, wanted: list[Choice]) -> float:
        """Forward passes an image, for the progress bar."""
        perturbed = sum(
            len(ks)
            for protocol in wanted
            if protocol.entry.facts["kind"] == "perturbation"
            for ks in _lists(method, protocol).values()
        )
        return method.entry.facts["passes"] + perturbed


class Chunk:
    """A few images on the device, with their clean logits, computed once for every method and protocol."""

    def __init__(self, job: Job, number: int, pixels: Tensor):
        self.job = job
        self.first = job.slices[number].start
        self.rows = job.subset.rows[job.slices[number]]
        self.images = pixels.to(job.device, memory_format=torch.channels_last)
        self.labels = torch.tensor([row.label for row in self.rows], device=job.device)

    @functools.cached_property
    def clean(self) -> Tensor:
        """(N, classes) logits of the images as they are."""
        with torch.inference_mode():
            return self.job.forward(self.images)

    def evaluate(self, method: Choice, wanted: list[Choice]) -> Iterator[tuple[Choice, dict[str, np.ndarray]]]:
        """Attribute once, then yield each wanted protocol's columns over all signs that the method has."""
        relevance = attribute(
            self.job.model,
            self.images,
            self.labels,
            method.entry.name,
            image_ids=[row.sha256 for row in self.rows],
            seed=self.job.config.seed,
            **method.options,
        )
        heatmaps = heatmaps_of(relevance)
        for row, fine in zip(self.rows, heatmaps.isfinite().flatten(1).all(1).tolist(), strict=True):
            if not fine:
                raise RapbenchError(f"method {method.label!r}: NaN or infinite relevance for image {row.file}")
        rankings = {sign: rank_pixels(heatmaps, sign) for sign in method.entry.facts["signs"]}
        for protocol in wanted:
            parts = []
            for sign, ks in _lists(method, protocol).items():
                columns = self._protocol(method, protocol, sign, rankings[sign], ks)
                signs = np.full(len(columns["row"]), sign)
                parts.append({"row": columns.pop("row") + self.first, "sign": signs} | columns)
            yield protocol, {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _protocol(
        self, method: Choice, protocol: Choice, sign: Sign, ranking: Ranking, ks: list[int | str]
    ) -> dict[str, np.ndarray]:
        function = functools.partial(protocol.entry.function, **protocol.options)
        if protocol.entry.facts["kind"] == "measure":
            return measure(function, ranking, ks, self.images.shape[-1], protocol.entry.name)
        transform = self.job.model.transform
        if "normalisation" in protocol.entry.options:
            moments = (torch.tensor(transform.mean), torch.tensor(transform.std))
            function = functools.partial(function, normalisation=moments)

        def seed(row: int, k: int | str) -> int:
            return seed_of(self.job.config.seed, self.rows[row].sha256, method.entry.name, sign, k)

        return perturb_and_predict(
            self.job.forward, function, self.images, self.labels, self.clean, ranking, ks, seed, self.job.batch
        )


def _lists(method: Choice, protocol: Choice) -> dict[Sign, list[int | str]]:
    """Return a protocol's K lists for the signs that a method has."""
    return {sign: ks for sign, ks in protocol.ks.items() if sign in method.entry.facts["signs"]}
