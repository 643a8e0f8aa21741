"""One run: model, data, subset, then every chunk of images through every method and protocol that is not yet stored."""

import functools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from tqdm import tqdm

from rapbench.config import RunConfig
from rapbench.data import datasets
from rapbench.data._dataset import Dataset
from rapbench.data._subset import Subset, load_images, load_manifest, select
from rapbench.draws import seed_of
from rapbench.errors import RapbenchError
from rapbench.files import write_whole
from rapbench.methods import attribute, methods
from rapbench.protocols import protocols
from rapbench.protocols.ranking import Sign, check_ks, heatmaps_of, rank_pixels
from rapbench.registry import Entry
from rapbench.report import write_report
from rapbench.runner.evaluate import Forward, forward_of, measure, perturb_and_predict
from rapbench.runner.identity import code_version, git_state, machine_kind, versions
from rapbench.runner.store import Cell
from rapbench.zoo import load_model
from rapbench.zoo._model import ZooModel


@dataclass(frozen=True)
class Choice:
    """A method or protocol as a run uses it: its label in the tables, its registry entry, and its options."""

    label: str
    entry: Entry
    options: dict[str, Any]
    ks: dict[Sign, list[int | str]]

    @property
    def identity(self) -> dict[str, Any]:
        """What a result depends on."""
        return {"name": self.entry.name, "options": self.options, "k": self.ks, "code": code_version(self.entry)}


def run(config: RunConfig | DictConfig) -> str:
    """Run what the configuration asks for, write the results to `config.output`, and return the text to show.

    Raises RapbenchError for anything that the user can mend. Finished chunks stay in the store whatever happens.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    chosen_methods = _choices(config.method, methods)
    chosen_protocols = _choices(config.protocol, protocols)
    if not chosen_methods or not chosen_protocols:
        raise RapbenchError("nothing to run: choose at least one method and one protocol, as in method=[rap]")
    if config.chunk < 1 or (config.batch is not None and config.batch < 1) or config.subset.n < 1:
        raise RapbenchError("chunk, batch and subset.n must be at least 1")
    device = _device(config.device)
    data_options = {"root": config.data.root} if config.data.root is not None else {}
    dataset = datasets[config.data.name].function(**datasets[config.data.name].check(data_options))
    model = load_model(config.model.name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    store = Path(config.results) / "store"
    subset = _subset(config, model, dataset, device, store)
    job = Job(config, model, dataset, subset, device, store, chosen_methods, chosen_protocols)
    job.compute()

    output = Path(config.output)
    subset.save(output / "manifest.csv")
    images, distances = job.results("perturbation"), job.results("measure")
    for name, frame in (("images", images), ("distances", distances)):
        if len(frame):
            write_whole(output / f"{name}.parquet", frame.to_parquet(index=False))
    header = _header(config, model, dataset, subset)
    provenance = {
        "header": header,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - clock, 1),
        "versions": versions(),
        "git": git_state(),
        "machine": machine_kind(device) | {"torch_threads": torch.get_num_threads()},
        "model": vars(model.facts) | {"weights_sha256": model.weights_sha256},
        "subset": {"n": len(subset.rows), "sha256": subset.identity, "drawn": subset.drawn, "broken": subset.broken},
        "seeds": {"run": config.seed, "subset": config.subset.seed},
        "methods": {choice.label: choice.identity for choice in chosen_methods},
        "protocols": {choice.label: choice.identity for choice in chosen_protocols},
        "config": OmegaConf.to_container(config, resolve=True, enum_to_str=True),  # type: ignore[arg-type]
    }
    write_whole(output / "provenance.json", json.dumps(provenance, indent=1).encode())
    return write_report(output, images, distances, header) + f"\nWritten to {output}/"


class Job:
    """The cells of a run and the loop that fills them."""

    def __init__(
        self,
        config: RunConfig | DictConfig,
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
        self.batch = config.batch or (8 if device.type == "cpu" else 64)
        size = config.chunk
        self.slices = [slice(start, start + size) for start in range(0, len(subset.rows), size)]
        common = {
            "weights": model.weights_sha256,
            "subset": subset.identity,
            "transform": repr(model.transform),
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
        }

    def compute(self) -> None:
        """Fill every cell, chunk by chunk; what is in the store already is not computed again."""
        work = {
            (number, method.label): [
                protocol for protocol in self.protocols if not self.cells[method.label, protocol.label].has(number)
            ]
            for number in range(len(self.slices))
            for method in self.methods
        }
        todo = {key: wanted for key, wanted in work.items() if wanted}
        by_label = {method.label: method for method in self.methods}
        cost = {key: self._passes(by_label[key[1]], wanted) * self._size(key[0]) for key, wanted in todo.items()}
        bar_format = "{desc} {percentage:3.0f}%|{bar}| {elapsed} elapsed, {remaining} left"
        with tqdm(total=sum(cost.values()) or 1, bar_format=bar_format, dynamic_ncols=True) as bar:
            for number in range(len(self.slices)):
                wanted = {label: protocols for (n, label), protocols in todo.items() if n == number}
                if not wanted:
                    continue
                chunk = Chunk(self, number)
                for label, chosen in wanted.items():
                    bar.set_description_str(f"{self.model.facts.name} · {label}")
                    for protocol, columns in chunk.evaluate(by_label[label], chosen):
                        self.cells[label, protocol.label].write(number, columns)
                    bar.update(cost[number, label])
            bar.set_description_str(f"{self.model.facts.name} · done")
            bar.update(bar.total - bar.n)
        for cell in self.cells.values():
            cell.finish()  # a run killed between the last chunk and the join

    def results(self, kind: str) -> pd.DataFrame:
        """Return the per-image results of all protocols of a kind, labelled for the tables."""
        frames = []
        for method in self.methods:
            for protocol in self.protocols:
                if protocol.entry.facts["kind"] == kind:
                    frame = self.cells[method.label, protocol.label].read().to_pandas()
                    frame.insert(0, "image", [self.subset.rows[row].file for row in frame.pop("row")])
                    labels = {row.file: row.label for row in self.subset.rows}
                    frame.insert(1, "label", frame["image"].map(labels))
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
            for sign, ks in protocol.ks.items()
            if sign in method.entry.facts["signs"]
        )
        return method.entry.facts["passes"] + perturbed  # type: ignore[no-any-return]


class Chunk:
    """A few images on the device, with their clean logits, computed once for every method and protocol."""

    def __init__(self, job: Job, number: int):
        self.job = job
        self.rows = job.subset.rows[job.slices[number]]
        images = load_images(job.subset, job.dataset, job.model, job.slices[number])
        self.images = images.to(job.device, memory_format=torch.channels_last)
        self.labels = torch.tensor([row.label for row in self.rows], device=job.device)

    @functools.cached_property
    def forward(self) -> Forward:
        """The model in the precision asked for."""
        return _forward(self.job.model, self.job.config.precision)

    @functools.cached_property
    def clean(self) -> Tensor:
        """(N, classes) logits of the images as they are."""
        with torch.inference_mode():
            return self.forward(self.images)

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
            for sign, ks in protocol.ks.items():
                if sign in rankings:
                    columns = self._protocol(method, protocol, sign, rankings[sign], ks)
                    signs = np.full(len(columns["row"]), sign)
                    parts.append({"row": columns.pop("row"), "sign": signs} | columns)
            yield protocol, _stacked(parts)

    def _protocol(
        self, method: Choice, protocol: Choice, sign: Sign, ranking: Any, ks: list[int | str]
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
            self.forward, function, self.images, self.labels, self.clean, ranking, ks, seed, self.job.batch
        )


@functools.lru_cache(maxsize=1)
def _forward(model: ZooModel, precision: Any) -> Forward:
    return forward_of(model, precision)


def _stacked(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def _choices(section: Any, registry: Any) -> list[Choice]:
    chosen = []
    for label, settings in (OmegaConf.to_container(section, resolve=True) or {}).items():
        if not isinstance(settings, dict) or "name" not in settings:
            raise RapbenchError(f"{registry.kind} {label!r} must be a mapping with a name, got {settings!r}")
        options = {key: value for key, value in settings.items() if key not in ("name", "summary", "k")}
        entry = registry[settings["name"]]
        given = entry.check(options)
        ks = check_ks(label, settings["k"]) if "k" in settings else {}
        chosen.append(Choice(label, entry, {key: given[key] for key in options}, ks))
    return chosen


def _device(name: str) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RapbenchError(f"device {name!r} cannot be used here ({reason}); try device=cpu") from error
    return device


def _subset(
    config: RunConfig | DictConfig, model: ZooModel, dataset: Dataset, device: torch.device, store: Path
) -> Subset:
    if config.subset.manifest:
        return load_manifest(Path(config.subset.manifest))
    key = json.dumps([model.weights_sha256, repr(model.transform), [vars(sample) for sample in dataset.samples],
                      str(dataset.root), config.subset.n, config.subset.seed, device.type])  # fmt: skip
    path = store / "subsets" / f"{seed_of(key) % 2**64:016x}.csv"
    if path.exists():
        known = load_manifest(path)
        try:
            for rows in range(0, len(known.rows), 32):
                load_images(known, dataset, model, slice(rows, rows + 32))
            return known
        except RapbenchError:
            path.unlink()  # images have changed: draw anew
    subset = select(model, dataset, config.subset.n, config.subset.seed, device)
    subset.save(path)
    return subset


def _header(config: RunConfig | DictConfig, model: ZooModel, dataset: Dataset, subset: Subset) -> list[str]:
    facts, n, wanted = model.facts, len(subset.rows), config.subset.n
    lines = [f"{facts.name}: {facts.architecture}, weights from {facts.source} ({facts.licence})."]
    if dataset.embedded:
        lines.append(
            f"{n} of the {dataset.description}: those that the model classifies correctly. This is not the paper's "
            f"protocol of {500} images; set IMAGENET=/path for that. One image is {100 / n:.1f} points of accuracy."
        )
    elif config.subset.manifest:
        lines.append(f"n = {n} images, those of {config.subset.manifest}, from {dataset.description}.")
    else:
        short = "" if n >= wanted else f" Only {n} of the {wanted} asked for are classified correctly."
        lines.append(f"n = {n} correctly classified images of {dataset.description}, drawn with seed "
                     f"{config.subset.seed}.{short}")  # fmt: skip
    if subset.broken:
        lines.append(f"{len(subset.broken)} images could not be decoded and were left out: {', '.join(subset.broken)}.")
    if config.precision.name != "fp32":
        lines.append(f"Perturbed images were classified in {config.precision.name}, the subset chosen in fp32.")
    return lines
