"""The patterns of a run's methods, estimated where there are none from images that the run does not evaluate."""

import hashlib
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import torch

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.core.paths import cache_folder
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.subset.predictions import draw_order
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.labels import titles
from rapbench.evaluation.run_spec import FEWEST_FOR_PATTERNS
from rapbench.evaluation.selection import with_files
from rapbench.model import Model
from rapbench.model.modules import at_rest
from rapbench.patterns.chain import chain
from rapbench.patterns.file import FORMAT, find, images_of, save
from rapbench.patterns.make import estimated
from rapbench.store.claim import Claim

BATCH = 8  # of every device: what the sums are rounded to depends on it
PATIENCE = 1.0  # seconds between two looks at what another process is making


OPTION = "patterns"


def with_patterns(choice: Choice, model: Model) -> Choice:
    """Return a choice that takes patterns with its file, as `with_files` does, and a remark on it.

    Raises NoPatterns where there are none yet, and RapbenchError for a network that has none.
    """
    choice = with_files(choice, model)
    path = find(model, choice.set_to(OPTION))
    count = images_of(path)
    said = "a number of images that it does not say" if count is None else f"{count:,} images"
    return replace(choice, remark=f"{_named(choice)}: patterns from a file of the user's, estimated from {said}.")


def with_held_out(
    choice: Choice, model: Model, dataset: Dataset, evaluated: Collection[str], n: int, seed: int, place: torch.device
) -> Choice:
    """Return a choice that lacks patterns with those from images outside a subset, as `held_out` makes them."""
    path = held_out(model, dataset, evaluated, n, seed, place)
    remark = (f"{_named(choice)}: patterns estimated from {images_of(path):,} images of {dataset.description} that are "
              "not evaluated.")  # fmt: skip
    return replace(choice, files={OPTION: file_hash(path)}, made={OPTION: str(path)}, remark=remark)


def takes_patterns(choice: Choice) -> bool:
    """Whether a method reads patterns."""
    return choice.entry.facts.files.get(OPTION) is find


def _named(choice: Choice) -> str:
    return titles([choice]).get(choice.label, choice.label)


def held_out(
    model: Model, dataset: Dataset, evaluated: Collection[str], n: int, seed: int, place: torch.device
) -> Path:
    """Return the file of patterns that are estimated from images outside a subset; make it where there is none.

    Parameters
    ----------
    model : Model
        Of VGG type, on `place`.
    dataset : Dataset
        The images: the last n of its draw that are not evaluated, so that subsets of any size leave the same ones.
    evaluated : collection of str
        The names of the subset's images.
    n : int
        How many images at most.
    seed : int
        Of the draw.
    place : torch.device
        Where they are computed.

    Returns
    -------
    Path
        In the user's cache. Of several processes one makes it, and the others wait; a killed one leaves nothing.

    Raises
    ------
    RapbenchError
        For another kind of network, and where fewer than 50 images are left.
    """
    with at_rest(model):
        chain(model)
    samples = [sample for sample in reversed(draw_order(dataset.samples, seed)) if sample.file not in evaluated][:n]
    if len(samples) < FEWEST_FOR_PATTERNS:
        raise RapbenchError(
            f"patterns take at least {FEWEST_FOR_PATTERNS} images that are not evaluated, {dataset.description} leave "
            f"{len(samples)}; make them from others: rapbench patterns --model {model.facts.asked or model.facts.name} "
            "--images FOLDER"
        )
    path = cache_folder() / "patterns" / f"{model.weights_sha256}-{_digest(model, dataset, samples)}.safetensors"
    waiting = False
    while not path.is_file():
        claim = Claim.of(path.with_suffix(".lock"))
        if claim is None:
            if not waiting:
                say("Another process is estimating patterns; waiting for it.")
                waiting = True
            time.sleep(PATIENCE)
            continue
        with claim:
            if not path.is_file():
                patterns, hashes = estimated(model, dataset, samples, len(samples), BATCH, place)
                save(patterns, model, path, hashes)
            claim.remove()
    return path


def _digest(model: Model, dataset: Dataset, samples: list[Sample]) -> str:
    """Return what patterns depend on beside the weights: the images' content and order, and their preprocessing."""
    parts = [FORMAT, repr(model.transform), f"upright={dataset.upright}"]
    for sample in samples:
        try:
            parts.append(dataset.sha256(sample.file))
        except OSError:  # it will be left out
            parts.append("")
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
