"""What a run keeps to show: the first inputs of the subset with every method's heatmap."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import ImageNetInfo
from torch import Tensor
from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import Dataset
from rapbench.data.layouts.synsets import CLASSES
from rapbench.data.subset.images import load_images
from rapbench.evaluation.chunk import Chunk
from rapbench.model import OWN, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.results.gallery import Gallery, load_gallery, quantised
from rapbench.store.cell import digest_of

if TYPE_CHECKING:
    from rapbench.evaluation.job import Job


def gallery_of(job: "Job", refused: Collection[str], output: Path | None = None) -> Gallery | None:
    """Return the gallery of a whole job; None where none is wanted.

    Heatmaps come from the store. One that it lacks, because the cells were computed when no gallery was wanted, is
    computed again. output: a folder that may hold the gallery already.
    """
    count = min(job.spec.gallery, len(job.subset.rows))
    labels = [label for label in job.methods if label not in refused]
    if not count or not labels:
        return None
    classes = classes_of(job.model, job.dataset)
    identity = digest_of({"maps": {label: job.shown[label].folder.name for label in labels}, "classes": classes})
    try:
        known = output and load_gallery(output)
    except RapbenchError:  # damaged: made again
        known = None
    if known and known.identity == identity:
        return known
    slices = [slice(part.start, min(part.stop, count)) for part in job.slices if part.start < count]
    pictures: list[NDArray[np.uint8]] = []
    maps: dict[str, list[Tensor]] = {label: [] for label in labels}
    progress = tqdm(total=len(slices) * len(labels), desc=f"{job.model.facts.name} · gallery", delay=2, leave=False)
    with progress as bar:
        for number, pixels in enumerate(load_images(job.subset, job.dataset, job.model.transform, slices)):
            chunk = job.chunk(number, pixels, job.model)
            pictures += list(seen(job.model, pixels))
            for label in labels:
                maps[label].append(_heatmaps(job, label, chunk).cpu())
                bar.update()
    return Gallery(
        identity,
        [row.file for row in job.subset.rows[:count]],
        [row.label for row in job.subset.rows[:count]],
        classes,
        np.stack(pictures),
        {label: quantised(torch.cat(parts).numpy()) for label, parts in maps.items()},
    )


def seen(model: Model, pixels: Tensor) -> NDArray[np.uint8]:
    """Return preprocessed (N, C, *space) inputs as (N, *space, 3) pictures, red first.

    Without a known normalisation, and of one spatial dimension, whose values are no brightness, each input is spread
    over all of black to white. Channels other than three, and those of one spatial dimension, are averaged, in grey.
    """
    one = pixels.dim() == 3
    across = [1] * (pixels.dim() - 2)
    if model.normalisation is None or one:
        drawn = pixels.mean(1, keepdim=True) if one else pixels
        low, high = (bound(drawn, tuple(range(1, drawn.dim())), keepdim=True) for bound in (torch.amin, torch.amax))
        colours = 255 * (drawn - low) / (high - low).clamp(min=torch.finfo(pixels.dtype).tiny)
    else:
        mean, std = (values.view(-1, *across) for values in model.normalisation)
        colours = 255 * (pixels * std + mean)
    if colours.shape[1] != 3:
        colours = colours.mean(1, keepdim=True).expand(-1, 3, *(-1 for _ in across))
    if isinstance(model.transform, Preprocess) and model.transform.bgr:
        colours = colours.flip(1)
    return colours.round().clamp(0, 255).byte().movedim(1, -1).contiguous().numpy()


def _heatmaps(job: "Job", label: str, chunk: Chunk) -> Tensor:
    shown, kept = job.shown[label], job.kept.get(label)
    space = chunk.images.shape[2:]
    found = shown.read(chunk.number, (len(chunk.rows), *space))
    if found is None:
        whole = job.slices[chunk.number]
        found = kept.read(chunk.number, (whole.stop - whole.start, *space)) if kept else None
        found = chunk.heatmaps(job.methods[label], None) if found is None else found[: len(chunk.rows)]
        found = shown.write(chunk.number, found)
    return found


def classes_of(model: Model, dataset: Dataset) -> list[str]:
    """Return what the classes are called: as the model says, else the data, else ImageNet's; empty where not known.

    Weights of the user's own may have a thousand classes of their own.
    """
    if names := model.class_names or dataset.class_names:
        return list(names)
    if model.facts.classes != CLASSES or model.facts.licence == OWN:
        return []
    names = ImageNetInfo("imagenet-1k").label_descriptions(as_dict=False)
    return [name.partition(",")[0] for name in names]
