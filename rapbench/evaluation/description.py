"""What was run, on which inputs, and what was skipped, in sentences: for the reports, and for print."""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rapbench.data.labelled.dataset import UNLABELLED, Dataset
from rapbench.data.subset.manifest import Subset
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.input_shape import input_shape, pixels_said
from rapbench.evaluation.job import Job
from rapbench.evaluation.k_limits import ks_of
from rapbench.evaluation.run_spec import N, RunSpec

HASH = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{52}\b")  # no line of print holds a SHA-256


class Description(NamedTuple):
    """header: of every report. caption: those of its sentences that are for print."""

    header: list[str]
    caption: list[str]


def described(job: Job, spec: RunSpec, refused: Mapping[str, str]) -> Description:
    """Describe a whole job. refused: why for each method that could not be used."""
    facts = job.model.facts
    named = f"{facts.name}: {facts.architecture}, weights from {facts.source} ({facts.licence})."
    inputs, printed = _inputs(job, spec)
    more, left_out = _remarks(job, spec.protocols, refused)
    return Description([named, inputs, *more, *left_out], _for_print([named, printed, *more]))


def _inputs(job: Job, spec: RunSpec) -> tuple[str, str]:
    """Say which inputs were evaluated, for the reports and for print."""
    dataset, subset, wanted = job.dataset, job.subset, spec.subset
    n = len(subset.rows)
    which = _which_inputs(dataset, subset, str(wanted.manifest or ""))
    if wanted.is_whole(dataset):
        unlabelled = dataset.samples[0].label == UNLABELLED
        said = ", labelled with the model's predictions" * unlabelled
        return (whole := f"n = {n}, all of {dataset.description}{said}."), whole
    if dataset.embedded:
        printed = f"{n} of the {dataset.description}: {which}."
        return (
            f"{printed} This is not the paper's protocol of 500 images. One image is {100 / n:.1f} points of accuracy."
        ), printed
    if wanted.manifest:
        return (
            f"n = {n} images, {which}, from {dataset.description}.",
            f"n = {n} images, chosen by a manifest, from {dataset.description}.",
        )
    asked = wanted.n or N
    printed = f"n = {n} images of {dataset.description}, drawn with seed {wanted.seed}: {which}."
    return printed + (f" There are only {n} of the {asked} asked for." if n < asked else ""), printed


def _for_print(sentences: Sequence[str]) -> list[str]:
    """Return sentences with their SHA-256 abbreviated."""
    return [HASH.sub(r"\1...", sentence) for sentence in sentences]


def _remarks(job: Job, asked: Sequence[Choice], refused: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Say what a reader must know of a job's inputs, and what was skipped: K, files, methods.

    asked: the protocols with the K that were asked for. refused: why for each method that could not be used.
    """
    subset, precision = job.subset, job.spec.precision.name
    more = []
    if len(subset.rows) > 1 and len({row.label for row in subset.rows}) == 1:
        more.append("All these images have the same label.")
    if precision != "fp32":
        more.append(f"Perturbed images were classified in {precision}; the subset was selected in fp32.")
    more += [choice.remark for choice in job.methods.values() if choice.remark and choice.label not in refused]
    if job.masks and (said := job.masks.said):
        more.append(said)
    left_out = _skipped_ks(asked, job)
    if subset.broken:
        skipped = ", ".join(subset.broken)
        left_out.append(f"{len(subset.broken)} images could not be decoded and were skipped: {skipped}.")
    if ready := [label for label, choice in job.methods.items() if choice.ready_made]:
        without = [choice.label for choice in job.protocols if choice.protocol.recomputed()]
        if without:
            left_out.append(f"Ready-made, so without {', '.join(without)}: {', '.join(ready)}.")
    if refused:
        left_out.append(f"Methods that could not be used: {reasons(refused)}.")
    return more, left_out


def reasons(refused: Mapping[str, str]) -> str:
    """Return why for each method that could not be used, in one line."""
    return "; ".join(f"{label}: {reason}" for label, reason in refused.items())


def _skipped_ks(wanted: Sequence[Choice], job: Job) -> list[str]:
    """Say which K of the default lists were skipped, as no image has that many pixels."""
    found: dict[str, list[str]] = {}
    asked = {choice.label: ks_of(choice) for choice in wanted}
    for protocol in job.protocols:
        kept = ks_of(protocol)
        gone = [f"{sign} {', '.join(str(k) for k in ks if k not in kept[sign])}"
                for sign, ks in asked[protocol.label].items() if ks != kept[sign]]  # fmt: skip
        if gone:
            found.setdefault("; ".join(gone), []).append(protocol.label)
    space = input_shape(job.model, job.dataset)[1:]
    return [
        f"Skipped K of {', '.join(labels)}: {gone}. An image has {pixels_said(space)}."
        for gone, labels in found.items()
    ]


def _which_inputs(dataset: Dataset, subset: Subset, manifest: str) -> str:
    """Return in words which of a data set's images a subset holds."""
    if manifest:
        return f"those of {manifest}"
    others = " and ".join(other.partition("@")[0] for other in subset.rows[0].also.split())
    if dataset.samples[0].label == UNLABELLED:
        return "labelled with the model's predictions" + (f", where {others} agrees" if others else "")
    return f"those that the model{f' and {others} classify' if others else ' classifies'} correctly"
