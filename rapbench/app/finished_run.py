"""A run that is over: its results, heatmaps and pictures again, from its folder and the store."""

import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from tqdm import tqdm

from rapbench.app.config import RunConfig
from rapbench.app.run import spec_of
from rapbench.core.errors import RapbenchError
from rapbench.data.subset.images import load_images
from rapbench.evaluation.gallery import classes_of, seen
from rapbench.evaluation.input_shape import input_shape, said
from rapbench.evaluation.preparation import prepared
from rapbench.registry import names_from
from rapbench.results.layouts import PERTURBATION, laid_out
from rapbench.results.provenance import provenance_of
from rapbench.results.run import Run
from rapbench.store.heatmaps import Heatmaps


class FinishedRun:
    """What a run's folder tells of it. labels: its methods, but for those that could not be used."""

    def __init__(self, folder: Path):
        """Load the run's data and model. Raises RapbenchError where the folder holds no run."""
        about = provenance_of(folder, needs=("config", "refused"))
        try:
            config = DictConfig(OmegaConf.merge(OmegaConf.structured(RunConfig), _literal(about["config"])))
            OmegaConf.to_container(config, resolve=True)  # each value is of its setting's type
        except (OmegaConfBaseException, RecursionError) as error:
            why = " ".join(str(error).split())
            raise RapbenchError(f"{folder}/provenance.json, config: {why}") from error
        config.subset.manifest, config.shard = str(folder / "manifest.csv"), None
        with names_from(folder / "provenance.json"):
            job_of, size = prepared(spec_of(config))
        self.folder, self.config, self.job = folder, config, job_of(size)
        self.labels = [label for label in self.job.methods if label not in about["refused"]]
        self.rows = self.job.subset.rows

    def results(self, layout: str) -> pd.DataFrame:
        """Return the per-image results of a layout's protocols, as `layouts.laid_out` returns them."""
        return laid_out(self.run, layout)

    def class_name(self, index: int) -> str:
        """Return what a class is called, its number where that is not known."""
        return self._classes[index] if 0 <= index < len(self._classes) else f"class {index}"

    def pictures(self, places: Sequence[int], dimensions: int = 2) -> NDArray[np.uint8]:
        """Return (P, *space, 3) pictures or volumes, as the network sees them, of the inputs at places of the subset.

        Raises RapbenchError for inputs of another number of spatial dimensions.
        """
        job = self.job
        if len(space := input_shape(job.model, job.dataset)[1:]) != dimensions:
            what = "pictures" if dimensions == 2 else "volumes"
            raise RapbenchError(f"this figure is of {what}; the run's inputs have size {said(space)}")
        singles = load_images(job.subset, job.dataset, job.model.transform, [slice(at, at + 1) for at in places])
        return np.concatenate([seen(job.model, pixels) for pixels in singles])

    def heatmaps(self, places: Sequence[int]) -> dict[str, NDArray[np.float32]]:
        """Return each method's (P, H, W) maps of the images at some places of the subset, as the run ranked them.

        They come from the store; one that the run did not keep is computed again, in its chunk, and kept.
        """
        job, size = self.job, self.job.size.chunk
        kept = {label: job.kept.get(label) or Heatmaps(job.store, job.keys[label], "float32") for label in self.labels}
        numbers = sorted({at // size for at in places})
        counts = {number: job.slices[number].stop - job.slices[number].start for number in numbers}
        found = {(label, number): kept[label].read(number, (counts[number],)) for label in self.labels
                 for number in numbers}  # fmt: skip
        missing = [key for key, maps in found.items() if maps is None]
        lacking = sorted({number for _, number in missing})
        pixels = load_images(job.subset, job.dataset, job.model.transform, [job.slices[number] for number in lacking])
        with tqdm(total=len(missing), desc=f"{job.model.facts.name} · heatmaps", delay=2, leave=False) as bar:
            for number, images in zip(lacking, pixels, strict=True):
                chunk = job.chunk(number, images, job.model)
                for label in (label for label, where in missing if where == number):
                    found[label, number] = chunk.heatmaps(job.methods[label], kept[label])
                    bar.update()
        whole = {key: maps.cpu() for key, maps in found.items() if maps is not None}
        return {label: torch.stack([whole[label, at // size][at % size] for at in places]).numpy()
                for label in self.labels}  # fmt: skip

    def predicted(self) -> dict[str, int]:
        """Return the class that the model sees in each image, where the run knows: measured at K = 0, or when drawn."""
        model = self.job.model
        here = (model.facts.name, model.weights_sha256)
        known = {row.file: row.label for row in self.rows if here in [(row.model, row.weights_sha256), *row.others]}
        images = self.results(PERTURBATION)
        if len(images):
            clean = images[images["k"] == "0"]
            known |= dict(zip(clean["image"], clean["predicted"].map(int), strict=True))
        return known

    @cached_property
    def run(self) -> Run:
        """Its results."""
        return self.job.results()

    @cached_property
    def _classes(self) -> list[str]:
        return classes_of(self.job.model, self.job.dataset)


def _literal(value: Any) -> Any:
    """Return a configuration in which text is text: what looks like OmegaConf's `${...}` stands for itself."""
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_literal(part) for part in value]
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", value) if isinstance(value, str) else value
