"""What a job was made of, for the record."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import torch

from rapbench.evaluation.identity import environment, git_state, machine_kind, processor
from rapbench.evaluation.job import Job
from rapbench.evaluation.labels import is_control


def provenance_of_job(job: Job, refused: Mapping[str, str], started: datetime, seconds: float) -> dict[str, Any]:
    """Return the provenance of a whole job, but for how it was asked for. refused: methods that could not be used."""
    model, dataset, subset = job.model, job.dataset, job.subset
    asked = job.absent.choices | job.methods
    return {
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "versions": environment() | job.versions,
        "git": git_state(),
        "machine": machine_kind(job.device) | {"processor": processor(), "torch_threads": torch.get_num_threads()},
        "model": vars(model.facts) | {"preprocessing": repr(model.transform), "weights_sha256": model.weights_sha256},
        "data": {"description": dataset.description, "sha256": dataset.identity},
        "subset": {"n": len(subset.rows), "sha256": subset.identity, "drawn": subset.drawn, "broken": subset.broken},
        "seeds": {"run": job.spec.seed},
        "methods": job.identities("method"),
        "protocols": job.identities("protocol"),
        "code": job.code,
        "controls": [label for label, method in job.methods.items() if is_control(method)],
        "refused": dict(refused),
        "refused_signs": {label: list(asked[label].entry.facts.signs) for label in refused},
    }
