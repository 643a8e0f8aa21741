"""One run: model, data and subset, the job that fills the store, and what is written from it."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rapbench.data._dataset import Dataset
from rapbench.data._manifest import Subset, load_manifest
from rapbench.errors import RapbenchError
from rapbench.files import remove_leftovers, write_whole
from rapbench.methods import methods as METHODS
from rapbench.model import Model
from rapbench.paths import STORE
from rapbench.protocols import protocols as PROTOCOLS
from rapbench.report import write_report
from rapbench.results.file import NAME, to_bytes
from rapbench.runner import written
from rapbench.runner.allocator import keep_memory
from rapbench.runner.choice import check_ready, check_space, checked, matched, with_files
from rapbench.runner.comparable import paper_beside
from rapbench.runner.compatible import check_classes, check_subset, logits_of
from rapbench.runner.describe import described, reasons
from rapbench.runner.device import default_batch, default_chunk, device_called
from rapbench.runner.draw import drawn
from rapbench.runner.gallery import write_gallery
from rapbench.runner.identity import model_key
from rapbench.runner.input_shape import input_shape
from rapbench.runner.job import Job, Size
from rapbench.runner.k_limits import within
from rapbench.runner.labels import check_labels, check_measures
from rapbench.runner.loaded import loaded_data, loaded_model
from rapbench.runner.memory import compute
from rapbench.runner.provenance import provenance_of_job
from rapbench.runner.spec import Spec
from rapbench.values import named, options_of


@dataclass(frozen=True)
class Ran:
    """What came of a run.

    Parameters
    ----------
    text : str
        To be shown.
    output : Path, or None
        The folder in which its results are; None while other shards owe some.
    refused : str
        Which methods could not be used, and why; empty where all could.
    """

    text: str
    output: Path | None
    refused: str


def run(config: DictConfig) -> Ran:
    """Run what the configuration asks for, and write the results to `config.output`.

    Raises RapbenchError for anything that the user can mend. Finished chunks stay in the store whatever happens.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    job, refused = compute(*prepared(config))
    if refused.keys() == job.methods.keys():
        raise RapbenchError(reasons(refused))
    if unfinished := job.unfinished(refused):
        text = (
            f"Shard {config.shard} is done. Chunks that other shards still owe: {unfinished}; the last shard, or the "
            "same command without shard, writes the tables."
        )
    else:
        text = _write(config, job, refused, started, time.monotonic() - clock)
    of = f"{len(refused)} of {len(job.methods)} methods could not be used: {reasons(refused)}" if refused else ""
    return Ran(text, None if unfinished else Path(config.output), of)


def prepared(config: DictConfig) -> tuple[Callable[[Size], Job], Size]:
    """Load what a configuration asks for; return how its job is made, and its size. Raises RapbenchError."""
    methods, protocols, shard = checked(config)
    check_labels(METHODS, methods)
    check_labels(PROTOCOLS, protocols)
    check_measures(protocols)
    check_ready(methods)
    keep_memory()
    device = device_called(config.device)
    dataset = loaded_data(_settings(config.data))
    model = loaded_model(_settings(config.model), str(device))
    space = input_shape(model, dataset)[1:]
    protocols = within(protocols, space)
    check_space(protocols, space, model)
    methods = [with_files(choice, model) for choice in methods]
    store = Path(config.results) / STORE
    subset = _subset(config, model, dataset, device, store)
    methods = [matched(choice, subset.rows, space) for choice in methods]

    def job_of(size: Size) -> Job:
        return Job(Spec.of(config), model, dataset, subset, device, store, methods, protocols, shard, size)

    return job_of, Size(config.chunk or default_chunk(device), config.batch or default_batch(device))


def _write(config: DictConfig, job: Job, refused: dict[str, str], started: datetime, seconds: float) -> str:
    """Write a whole job's results, tables and plots, and where they come from; return the text to show."""
    subset = job.subset
    output = Path(os.path.relpath(config.output))  # a path of this machine says nothing to a reader of the results
    remove_leftovers(output)
    header, caption, hints = described(config, job, refused)
    settings: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    provenance = {
        "header": header,
        "caption": caption,
        **provenance_of_job(job, refused, started, seconds),
        "seeds": {"run": config.seed, "subset": config.subset.seed},
        "paper": paper_beside(config, job.model, job.dataset, job.methods.values(), job.protocols),
        "config": settings | {"output": str(output)} | vars(job.size),
    }
    made_of = written.made_of(provenance, [job.files(refused), [vars(row) for row in subset.rows]])
    if (text := written.text_of(output, made_of)) is not None:
        return text
    subset.save(output / "manifest.csv")
    results = job.results()
    write_whole(output / NAME, to_bytes(results))
    write_whole(output / "provenance.json", json.dumps(provenance, indent=1).encode())
    write_gallery(job, output, refused)
    text = "\n".join([write_report(output, results, header), *hints, f"Written to {output}/"])
    written.record(output, made_of, text)
    return text


def _subset(config: DictConfig, model: Model, dataset: Dataset, device: torch.device, store: Path) -> Subset:
    manifest = load_manifest(Path(config.subset.manifest)) if config.subset.manifest else None
    require: Any = [] if manifest else OmegaConf.to_container(config.subset.require, resolve=True)
    required = [loaded_model(named(entry), str(device)) for entry in require]
    others = [other for other in required if model_key(other) != model_key(model)]
    counts = [(each.facts.name, logits_of(each, input_shape(each, dataset), device)) for each in (model, *others)]
    check_classes(counts, dataset)
    subset = manifest or drawn([model, *others], dataset, config.subset.n, config.subset.seed, device, store)
    check_subset(model, counts[0][1], subset)
    return subset


def _settings(section: DictConfig) -> dict[str, Any]:
    """Return a config section's name and options, as load_model and load_data take them."""
    settings: Any = OmegaConf.to_container(section, resolve=True)
    return {"name": settings["name"]} | options_of(settings)
