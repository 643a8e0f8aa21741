"""What a run keeps to show: the first images of the subset with every method's heatmap, in its output folder."""

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from timm.data import ImageNetInfo
from torch import Tensor
from tqdm import tqdm

from rapbench.data._dataset import Dataset
from rapbench.data._images import load_images
from rapbench.data._synsets import CLASSES
from rapbench.errors import RapbenchError
from rapbench.files import write_whole
from rapbench.model import OWN, Model
from rapbench.preprocessing import Preprocess
from rapbench.report.gallery import FILE, Gallery, load_gallery, quantised
from rapbench.runner.chunk import Chunk
from rapbench.runner.input_shape import input_shape
from rapbench.store.cell import digest_of

if TYPE_CHECKING:
    from rapbench.runner.job import Job


def write_gallery(job: "Job", output: Path, refused: Collection[str]) -> None:
    """Write the gallery of a whole job, unless the output folder has it; without one wanted, remove what is there.

    Inputs of one or three spatial dimensions are no pictures, and have none.

    Heatmaps come from the store. One that it lacks, because the cells were computed when no gallery was wanted, is
    computed again.
    """
    count = min(job.spec.gallery, len(job.subset.rows))
    labels = [label for label in job.methods if label not in refused]
    if not count or not labels or len(input_shape(job.model, job.dataset)) != 3:
        (output / FILE).unlink(missing_ok=True)
        return
    classes = classes_of(job.model, job.dataset)
    identity = digest_of({"maps": {label: job.shown[label].folder.name for label in labels}, "classes": classes})
    try:
        known = load_gallery(output)
    except RapbenchError:  # damaged: written again
        known = None
    if known and known.identity == identity:
        return
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
    gallery = Gallery(
        identity,
        [row.file for row in job.subset.rows[:count]],
        [row.label for row in job.subset.rows[:count]],
        classes,
        np.stack(pictures),
        {label: quantised(torch.cat(parts).numpy()) for label, parts in maps.items()},
    )
    write_whole(output / FILE, gallery.save())


def seen(model: Model, pixels: Tensor) -> NDArray[np.uint8]:
    """Return preprocessed (N, C, H, W) images as (N, H, W, 3) pictures, red first.

    Without a known normalisation each image is spread over all of black to white. Channels other than three are
    averaged, in grey.
    """
    if model.normalisation is None:
        low, high = (bound(pixels, (1, 2, 3)).view(-1, 1, 1, 1) for bound in (torch.amin, torch.amax))
        colours = 255 * (pixels - low) / (high - low).clamp(min=torch.finfo(pixels.dtype).tiny)
    else:
        mean, std = (values.view(-1, 1, 1) for values in model.normalisation)
        colours = 255 * (pixels * std + mean)
    if colours.shape[1] != 3:
        colours = colours.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    if isinstance(model.transform, Preprocess) and model.transform.bgr:
        colours = colours.flip(1)
    return colours.round().clamp(0, 255).byte().permute(0, 2, 3, 1).contiguous().numpy()


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
