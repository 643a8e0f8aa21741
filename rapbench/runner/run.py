"""One run: model, data and subset, the job that fills the store, and what is written from it."""

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rapbench.data._dataset import UNLABELLED, Dataset
from rapbench.data._draw import BATCH, select
from rapbench.data._manifest import Subset, load_manifest
from rapbench.errors import RapbenchError
from rapbench.files import remove_leftovers, write_whole
from rapbench.paths import STORE
from rapbench.report import write_report
from rapbench.runner import written
from rapbench.runner.allocator import keep_memory
from rapbench.runner.choice import check_regions, checked, options_of
from rapbench.runner.device import default_batch, device_called
from rapbench.runner.gallery import write_gallery
from rapbench.runner.identity import git_state, machine_kind, processor, versions
from rapbench.runner.job import Job, Size
from rapbench.runner.loaded import loaded_data, loaded_model
from rapbench.runner.memory import compute, halves, with_less
from rapbench.zoo._model import ZooModel


def run(config: DictConfig) -> str:
    """Run what the configuration asks for, write the results to `config.output`, and return the text to show.

    Raises RapbenchError for anything that the user can mend. Finished chunks stay in the store whatever happens.
    """
    started, clock = datetime.now(UTC), time.monotonic()
    job, refused = compute(*prepared(config))
    if refused.keys() == job.methods.keys():
        raise RapbenchError(_reasons(refused))
    if unfinished := job.unfinished(refused):
        text = (
            f"Shard {config.shard} is done. Chunks that other shards still owe: {unfinished}; the last shard, or the "
            "same command without shard, writes the tables."
        )
    else:
        text = _write(config, job, refused, started, time.monotonic() - clock)
    if refused:
        print(text)
        raise RapbenchError(f"{len(refused)} of {len(job.methods)} methods could not be used: {_reasons(refused)}")
    return text


def prepared(config: DictConfig) -> tuple[Callable[[Size], Job], Size]:
    """Load what a configuration asks for; return how its job is made, and its size. Raises RapbenchError."""
    methods, protocols, shard = checked(config)
    keep_memory()
    device = device_called(config.device)
    dataset = loaded_data(_settings(config.data))
    model = loaded_model(_settings(config.model), str(device))
    check_regions(protocols, model.transform.crop)
    methods = [choice.with_files(model) for choice in methods]
    store = Path(config.results) / STORE
    subset = _subset(config, model, dataset, device, store)

    def job_of(size: Size) -> Job:
        return Job(config, model, dataset, subset, device, store, methods, protocols, shard, size)

    return job_of, Size(config.chunk, config.batch or default_batch(device))


def _write(config: DictConfig, job: Job, refused: dict[str, str], started: datetime, seconds: float) -> str:
    """Write a whole job's results, tables and plots, and where they come from; return the text to show."""
    model, dataset, subset, device = job.model, job.dataset, job.subset, job.device
    output = Path(os.path.relpath(config.output))  # a path of this machine says nothing to a reader of the results
    remove_leftovers(output)
    header = _header(config, model, dataset, subset, refused)
    settings: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    provenance = {
        "header": header,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "versions": versions(),
        "git": git_state(),
        "machine": machine_kind(device) | {"processor": processor(), "torch_threads": torch.get_num_threads()},
        "model": vars(model.facts) | {"preprocessing": repr(model.transform), "weights_sha256": model.weights_sha256},
        "data": {"description": dataset.description, "sha256": dataset.identity},
        "subset": {"n": len(subset.rows), "sha256": subset.identity, "drawn": subset.drawn, "broken": subset.broken},
        "seeds": {"run": config.seed, "subset": config.subset.seed},
        "methods": {choice.label: choice.identity for choice in job.methods.values()},
        "protocols": {choice.label: choice.identity for choice in job.protocols},
        "refused": refused,
        "config": settings | {"output": str(output)} | vars(job.size),
    }
    made_of = written.made_of(provenance, [job.files(refused), [vars(row) for row in subset.rows]])
    if (text := written.text_of(output, made_of)) is not None:
        return text
    subset.save(output / "manifest.csv")
    images, distances, regions = (job.results(kind) for kind in ("perturbation", "measure", "regions"))
    for name, frame in (("images", images), ("distances", distances), ("regions", regions)):
        if len(frame):
            write_whole(output / f"{name}.parquet", frame.to_parquet(index=False))
        else:
            (output / f"{name}.parquet").unlink(missing_ok=True)  # of an earlier run with other protocols
    write_whole(output / "provenance.json", json.dumps(provenance, indent=1).encode())
    write_gallery(job, output, refused)
    text = write_report(output, images, distances, header, regions) + f"\nWritten to {output}/"
    written.record(output, made_of, text)
    return text


def _reasons(refused: dict[str, str]) -> str:
    return "; ".join(f"{label}: {reason}" for label, reason in refused.items())


def _subset(config: DictConfig, model: ZooModel, dataset: Dataset, device: torch.device, store: Path) -> Subset:
    if config.subset.manifest:
        return load_manifest(Path(config.subset.manifest))
    require: Any = OmegaConf.to_container(config.subset.require, resolve=True)
    required = [loaded_model(_named(entry), str(device)) for entry in require]
    others = [other for other in required if other.weights_sha256 != model.weights_sha256]
    models, subset = [model, *others], config.subset
    return with_less(
        lambda batch: select(models, dataset, subset.n, subset.seed, device, store, batch),
        halves(BATCH),
        f"with {BATCH} images in one pass, to choose the subset",
    )


def _settings(section: DictConfig) -> dict[str, Any]:
    """Return a config section's name and options, as load_model and load_data take them."""
    settings: Any = OmegaConf.to_container(section, resolve=True)
    return {"name": settings["name"]} | options_of(settings)


def _named(entry: Any) -> dict[str, Any]:
    """Return what subset.require names: a model, or a mapping with its name and options."""
    settings = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(settings, dict) or "name" not in settings:
        raise RapbenchError(f"subset.require must list models, by name or as mappings with a name, got {entry!r}")
    return settings


def _header(
    config: DictConfig, model: ZooModel, dataset: Dataset, subset: Subset, refused: dict[str, str]
) -> list[str]:
    facts, n, wanted = model.facts, len(subset.rows), config.subset.n
    lines = [f"{facts.name}: {facts.architecture}, weights from {facts.source} ({facts.licence})."]
    manifest, which = config.subset.manifest, _which(config, dataset, subset)
    if dataset.embedded:
        lines.append(
            f"{n} of the {dataset.description}: {which}. This is not the paper's protocol of 500 images; set "
            f"IMAGENET=/path for that. One image is {100 / n:.1f} points of accuracy."
        )
    elif manifest:
        lines.append(f"n = {n} images, {which}, from {dataset.description}.")
    else:
        short = "" if n >= wanted else f" There are only {n} of the {wanted} asked for."
        lines.append(f"n = {n} images of {dataset.description}, drawn with seed {config.subset.seed}: {which}.{short}")
    if subset.broken:
        lines.append(f"{len(subset.broken)} images could not be decoded and were left out: {', '.join(subset.broken)}.")
    if refused:
        lines.append(f"Left out: {_reasons(refused)}.")
    if config.precision.name != "fp32":
        lines.append(f"Perturbed images were classified in {config.precision.name}, the subset chosen in fp32.")
    return lines


def _which(config: DictConfig, dataset: Dataset, subset: Subset) -> str:
    """Return in words which of a data set's images a subset holds."""
    if config.subset.manifest:
        return f"those of {config.subset.manifest}"
    others = " and ".join(other.partition("@")[0] for other in subset.rows[0].also.split())
    if dataset.samples[0].label == UNLABELLED:
        return "labelled with what the model predicts" + (f", where {others} agrees" if others else "")
    return f"those that the model{f' and {others} classify' if others else ' classifies'} correctly"
