"""ImageNet (ILSVRC-2012 validation) as a user has it on disk: unpacked, in its archive, or as parquet files."""

import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rapbench.core.errors import RapbenchError
from rapbench.core.paths import user_path
from rapbench.data import datasets
from rapbench.data.labelled.dataset import UNLABELLED, Dataset, Sample
from rapbench.data.layouts.image_files import entries, images_in, unlabelled_below
from rapbench.data.layouts.label_files import NAMES, find_labels, from_label_file
from rapbench.data.layouts.parquet import open_parquet
from rapbench.data.layouts.synsets import CLASSES, WNID, in_class_folders, refuse_unknown
from rapbench.data.layouts.tar import open_tar
from rapbench.data.marks.boxes import boxes_of, imagenet_key

ARCHIVE = "ILSVRC2012_img_val.tar"
LAYOUT = (
    "expected ROOT/<wnid>/*.JPEG or ROOT/val/<wnid>/*.JPEG with folders such as n01440764, flat "
    f"ILSVRC2012_val_*.JPEG, {ARCHIVE} or *.parquet"
)
FOLDERS = ("val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "")


@datasets.register("imagenet")
def imagenet(
    *,
    root: str | None = None,
    labels: Literal["given", "predicted"] = "given",
    labels_file: str | None = None,
    exif: Literal["ignore", "apply"] = "ignore",
    boxes: str | None = None,
) -> Dataset:
    """Return the images below `root`, a folder or an archive; a label is the index among all 1,000 sorted synsets.

    labels: `predicted` leaves them out. labels_file: instead of what the layout says or a label file near the images.
    exif: published accuracies ignore it. boxes: ILSVRC2012_bbox_val_v3.tgz, or the XML files in it, in any folders.
    Raises RapbenchError for a root that is missing, empty or of another layout, for labels that are not ImageNet's, for
    images without one, and for boxes of none of the images.
    """
    if not root:
        raise RapbenchError("the imagenet data set needs data.root (make: IMAGENET=/path)")
    if labels_file and labels == "predicted":
        raise RapbenchError("data.labels_file has no meaning with data.labels=predicted; leave one of them out")
    place = user_path(root, "data.root").resolve()
    given = labels == "given"
    if os.path.isfile(place):
        found = _archive(place, given and not labels_file)
    elif os.path.isdir(place):
        found = _unpacked(place, given) or _packed(place, given and not labels_file)
    else:
        raise RapbenchError(f"IMAGENET: {place} is not a folder or an archive; {LAYOUT}")
    source = ""
    if given and (labels_file or found.samples[0].label == UNLABELLED):
        around = [place, found.root, found.root.parent, place.parent]
        file = user_path(labels_file, "data.labels_file").resolve() if labels_file else find_labels(around)
        if file is None:
            raise RapbenchError(
                f"IMAGENET: no labels for the images in {found.root}; put {', '.join(NAMES[:-1])} beside them, name "
                "one as data.labels_file, or set data.labels=predicted"
            )
        found = replace(found, samples=from_label_file([sample.file for sample in found.samples], file))
        source = f", labels from {file.name}"
    name = found.root.name + ("/" if found.root.is_dir() else "")
    description = f"{len(found.samples):,} {'ImageNet ' if given else ''}images in {name}{source}"
    marks = boxes_of(boxes, [sample.file for sample in found.samples], imagenet_key) if boxes else None
    return replace(found, name="imagenet", description=description, upright=exif == "apply",
                   classes=CLASSES if given else None, marks=marks)  # fmt: skip


def _unpacked(root: Path, given: bool) -> Dataset | None:
    """Return the images that lie in one of the usual folders: by class, or flat; unlabelled ones at any depth."""
    hollow = None
    for folder in [root / name for name in FOLDERS if (root / name).is_dir()]:
        if given:
            classes = [entry.name for entry in entries(folder) if WNID.fullmatch(entry.name) and entry.is_dir()]
            refuse_unknown(classes, folder)
            names = [f"{wnid}/{image}" for wnid in classes for image in images_in(folder / wnid)]
            hollow = folder if classes and not names else hollow
            found = in_class_folders(names, folder) or [Sample(name, UNLABELLED) for name in images_in(folder)]
        else:
            found = unlabelled_below(folder)
        if found:
            return Dataset("imagenet", folder, found, "")
    if hollow:
        raise RapbenchError(f"IMAGENET: the class folders in {hollow} hold no images; {LAYOUT}")
    return None


def _packed(root: Path, labelled: bool) -> Dataset:
    """Return the images of the archive or of the parquet files in a folder."""
    if (root / ARCHIVE).is_file():
        return _archive(root / ARCHIVE, labelled)
    for folder in (root, root / "data"):
        inside = entries(folder) if folder.is_dir() else []
        shards = [folder / entry.name for entry in inside if re.fullmatch(r"[^.].*\.parquet", entry.name)]
        parts = [shard for shard in shards if re.match(r"(train|val|validation|test)-", shard.name)]
        wanted = [shard for shard in parts if shard.name.startswith("val")] if parts else shards
        if wanted:
            return open_parquet(folder, wanted, labelled)
        if shards:
            raise RapbenchError(f"IMAGENET: {folder} has no validation-*.parquet, only such as {shards[0].name}")
    what = "holds no images that are known here" if any(root.iterdir()) else "is empty"
    raise RapbenchError(f"IMAGENET: {root} {what}; {LAYOUT}")


def _archive(path: Path, labelled: bool) -> Dataset:
    if path.suffix == ".parquet":
        return open_parquet(path, [path], labelled)
    if not re.search(r"\.(tar|tgz|tbz2?|txz)(\.|$)", path.name):
        raise RapbenchError(f"IMAGENET: {path} is not a tar archive or a parquet file; {LAYOUT}")
    found = open_tar(path)
    if labelled and (samples := in_class_folders(found.members, path)):
        return replace(found, samples=sorted(samples, key=lambda sample: sample.file))
    return found
