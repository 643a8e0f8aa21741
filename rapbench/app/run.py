"""`rapbench run`: a configuration to what it asks for, its job, and the files that are written of it."""

import functools
import os
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf

from rapbench.app import unchanged_output
from rapbench.app.choices import checked
from rapbench.app.loaded_models import loaded_data, loaded_model
from rapbench.app.paper_beside import paper_beside
from rapbench.app.values import named, options_of
from rapbench.core.allocator import keep_memory
from rapbench.core.extras import check_installed
from rapbench.core.files import remove_leftovers
from rapbench.core.paths import STORE
from rapbench.core.tolerance import full_precision
from rapbench.evaluation.description import described, reasons
from rapbench.evaluation.gallery import gallery_of
from rapbench.evaluation.job import Job
from rapbench.evaluation.memory import compute
from rapbench.evaluation.preparation import prepared
from rapbench.evaluation.provenance import provenance_of_job
from rapbench.evaluation.run_spec import RunSpec, SubsetSpec
from rapbench.model import Model
from rapbench.report.folder import write_run


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
        Which methods could not be used, and why, but for optional ones; empty where all could.
    """

    text: str
    output: Path | None
    refused: str


@full_precision()
def run(config: DictConfig) -> Ran:
    """Run what the configuration asks for, and write the results to `config.output`.

    Raises RapbenchError for anything that the user can mend. Finished chunks stay in the store whatever happens.
    """
    check_installed("report", "rapbench run")
    started, clock = datetime.now(UTC), time.monotonic()
    keep_memory()
    spec = spec_of(config)
    job, refused = compute(*prepared(spec))
    if unfinished := job.unfinished(refused):
        text = (
            f"Shard {config.shard} is done. Chunks that other shards still have to compute: {unfinished}; the last "
            "shard, or the same command without shard, writes the tables."
        )
    else:
        text = _write(config, spec, job, refused, started, time.monotonic() - clock)
    failed = {label: reason for label, reason in refused.items() if label not in spec.optional}
    of = f"{len(failed)} of {len(spec.methods)} methods could not be used: {reasons(failed)}" if failed else ""
    return Ran(text, None if unfinished else Path(config.output), of)


def spec_of(config: DictConfig) -> RunSpec:
    """Return what a configuration asks for. Raises RapbenchError for whatever in it makes no sense."""
    methods, protocols, shard = checked(config)
    model, data = _settings(config.model), _settings(config.data)
    manifest = Path(config.subset.manifest) if config.subset.manifest else None
    require: Any = [] if manifest else OmegaConf.to_container(config.subset.require, resolve=True)
    return RunSpec(
        seed=config.seed,
        precision=config.precision,
        heatmaps=config.heatmaps and config.heatmaps.name,
        gallery=config.gallery,
        model=functools.partial(_loaded, model),
        data=functools.partial(loaded_data, data),
        methods=methods,
        protocols=protocols,
        store=Path(config.results) / STORE,
        subset=SubsetSpec(config.subset.n, config.subset.seed, manifest,
                          [functools.partial(_loaded, named(entry)) for entry in require]),
        device=config.device,
        chunk=config.chunk,
        batch=config.batch,
        shard=shard,
        optional=frozenset(config.optional),
        pattern_images=config.pattern_images,
    )  # fmt: skip


def _write(
    config: DictConfig, spec: RunSpec, job: Job, refused: dict[str, str], started: datetime, seconds: float
) -> str:
    """Write a whole job's results, tables and plots, and where they come from; return the text to show."""
    output = Path(os.path.relpath(config.output))  # a path of this machine says nothing to a reader of the results
    remove_leftovers(output)
    settings: Any = OmegaConf.to_container(config, resolve=True, enum_to_str=True)
    provenance = {
        **described(job, spec, refused)._asdict(),
        **provenance_of_job(job, refused, started, seconds),
        "seeds": {"run": config.seed, "subset": config.subset.seed},
        "paper": paper_beside(config, job.model, job.dataset, spec.methods, job.protocols),
        "config": settings | {"output": str(output)} | vars(job.size),
    }
    made_of = unchanged_output.made_of(provenance, [job.files(refused), [vars(row) for row in job.subset.rows]])
    if (text := unchanged_output.text_of(output, made_of)) is not None:
        return text
    text = write_run(output, replace(job.results(), about=provenance, shown=gallery_of(job, refused, output)))
    hint = ["For ImageNet itself set data=imagenet data.root=/path (make: IMAGENET=/path)."] * job.dataset.embedded
    text = "\n".join([text, *hint, f"Written to {output}/"])
    unchanged_output.record(output, made_of, text)
    return text


def _loaded(settings: dict[str, Any], device: torch.device) -> Model:
    return loaded_model(settings, str(device))


def _settings(section: DictConfig) -> dict[str, Any]:
    """Return a config section's name and options, as load_model and load_data take them."""
    settings: Any = OmegaConf.to_container(section, resolve=True)
    return {"name": settings["name"]} | options_of(settings)
