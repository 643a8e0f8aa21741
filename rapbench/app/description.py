"""What a configuration ran, in sentences: for the reports, for print, and what to do about it."""

from collections.abc import Mapping
from typing import NamedTuple

from omegaconf import DictConfig

from rapbench.app.choices import choices
from rapbench.evaluation.description import for_print, remarks, which_inputs
from rapbench.evaluation.job import Job
from rapbench.protocols import protocols


class Description(NamedTuple):
    """header: of every report. caption: those of its sentences that are for print. hints: what the user may do."""

    header: list[str]
    caption: list[str]
    hints: list[str]


def described(config: DictConfig, job: Job, refused: Mapping[str, str]) -> Description:
    """Describe a whole job. refused: why for each method that could not be used."""
    facts, subset, dataset = job.model.facts, job.subset, job.dataset
    n, hints = len(subset.rows), []
    named = f"{facts.name}: {facts.architecture}, weights from {facts.source} ({facts.licence})."
    which = which_inputs(dataset, subset, config.subset.manifest)
    if dataset.embedded:
        images = (
            f"{n} of the {dataset.description}: {which}. This is not the paper's protocol of 500 images. One image is "
            f"{100 / n:.1f} points of accuracy."
        )
        printed = f"{images.partition('. ')[0]}."
        hints.append("For ImageNet itself set data=imagenet data.root=/path (make: IMAGENET=/path).")
    elif config.subset.manifest:
        images = f"n = {n} images, {which}, from {dataset.description}."
        printed = f"n = {n} images, chosen by a manifest, from {dataset.description}."
    else:
        short = "" if n >= config.subset.n else f" There are only {n} of the {config.subset.n} asked for."
        printed = f"n = {n} images of {dataset.description}, drawn with seed {config.subset.seed}: {which}."
        images = printed + short
    more, left_out = remarks(job, choices(config.protocol, protocols), refused)
    return Description([named, images, *more, *left_out], for_print([named, printed, *more]), hints)
