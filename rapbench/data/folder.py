"""A user's own images: any folder of them, or a folder for each class."""

from pathlib import Path
from typing import Literal

from rapbench.core.errors import RapbenchError
from rapbench.core.paths import user_path
from rapbench.data import datasets
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.layouts.image_files import SUFFIXES, entries, unlabelled_below


@datasets.register("folder")
def folder(
    *,
    root: str | None = None,
    labels: Literal["predicted", "folders"] = "predicted",
    exif: Literal["ignore", "apply"] = "apply",
) -> Dataset:
    """Return the images below `root`, at any depth.

    labels: `predicted` gives none; `folders` numbers the folders in `root` by name: 0, 1, 2. Raises RapbenchError for
    a root that is no folder or holds no images, and for a class folder without any.
    """
    if not root:
        raise RapbenchError("the folder data set needs data.root, a folder of images")
    place = user_path(root, "data.root").resolve()
    if not place.is_dir():
        raise RapbenchError(f"{place} is not a folder of images")
    if labels == "predicted":
        found = unlabelled_below(place)
        if not found:
            raise RapbenchError(f"{place} holds no images ({', '.join(SUFFIXES)})")
        classes: list[str] = []
        description = f"{len(found):,} below {place.name}/"
    else:
        classes = [entry.name for entry in entries(place) if entry.is_dir() and not entry.name.startswith(".")]
        if not classes:
            raise RapbenchError(f"{place} has no class folders; data.labels=predicted takes images without labels")
        found = [sample for label, name in enumerate(classes) for sample in _class(place, name, label)]
        description = f"{len(found):,} in the {len(classes):,} class folders of {place.name}/"
    return Dataset(
        "folder",
        place,
        found,
        description,
        upright=exif == "apply",
        classes=len(classes) or None,
        class_names=tuple(classes),
    )


def _class(place: Path, name: str, label: int) -> list[Sample]:
    found = [Sample(f"{name}/{sample.file}", label) for sample in unlabelled_below(place / name)]
    if not found:
        raise RapbenchError(f"{place / name} holds no images, and a class needs some; remove it or fill it")
    return found
