"""A user's own images: any folder of them, or a folder for each class."""

from pathlib import Path
from typing import Literal

from rapbench.core.errors import RapbenchError
from rapbench.core.paths import user_path
from rapbench.data import datasets
from rapbench.data.labelled.dataset import UNLABELLED, Dataset, Sample
from rapbench.data.labelled.marks import Marks
from rapbench.data.layouts.image_files import SUFFIXES, entries, unlabelled_below
from rapbench.data.marks.boxes import boxes_of
from rapbench.data.marks.pictures import BESIDE, beside, is_beside, masks_in


@datasets.register("folder")
def folder(
    *,
    root: str | None = None,
    labels: Literal["predicted", "folders"] = "predicted",
    exif: Literal["ignore", "apply"] = "apply",
    masks: str | None = None,
    boxes: str | None = None,
) -> Dataset:
    """Return the images below `root`, at any depth.

    labels: `predicted` gives none; `folders` numbers the folders in `root` by name: 0, 1, 2. masks: a folder of masks,
    which also lie beside images, as dog.mask.png. boxes: Pascal VOC XML files. Raises RapbenchError for a root that is
    no folder or holds no images, for a class folder without any, and for masks or boxes that are of none of them.
    """
    if not root:
        raise RapbenchError("the folder data set needs data.root, a folder of images")
    place = user_path(root, "data.root").resolve()
    if not place.is_dir():
        raise RapbenchError(f"{place} is not a folder of images")
    apart = user_path(masks, "data.masks").resolve() if masks else None
    if apart == place:
        raise RapbenchError("data.masks is data.root, so masks are not told from images; put them into a folder of "
                            f"their own, or beside their images as <name>{BESIDE}")  # fmt: skip
    if labels == "predicted":
        found, known = _below(place, "", UNLABELLED, apart)
        if not found:
            raise RapbenchError(f"{place} holds no images ({', '.join(SUFFIXES)})")
        classes: list[str] = []
        description = f"{len(found):,} below {place.name}/"
    else:
        folders = [entry for entry in entries(place) if entry.is_dir() and not entry.name.startswith(".")]
        classes = [entry.name for entry in folders if Path(entry.path).resolve() != apart]
        if not classes:
            raise RapbenchError(f"{place} has no class folders; data.labels=predicted takes images without labels")
        found, known = [], []
        for label, name in enumerate(classes):
            samples, more = _below(place, name, label, apart)
            if not samples:
                raise RapbenchError(f"{place / name} holds no images, and a class needs some; remove it or fill it")
            found += samples
            known += more
        description = f"{len(found):,} in the {len(classes):,} class folders of {place.name}/"
    marks = _marks(place, [sample.file for sample in found], known, masks, boxes)
    return Dataset(
        "folder",
        place,
        found,
        description,
        upright=exif == "apply",
        classes=len(classes) or None,
        class_names=tuple(classes),
        marks=marks,
    )


def _below(place: Path, name: str, label: int, apart: Path | None) -> tuple[list[Sample], list[str]]:
    """Return the images below a folder in `place`, and the masks beside them; apart: a folder that is left out."""
    names = [f"{name}/{sample.file}" if name else sample.file for sample in unlabelled_below(place / name)]
    if apart is not None:
        names = [each for each in names if not (place / each).resolve().is_relative_to(apart)]
    return [Sample(each, label) for each in names if not is_beside(each)], [each for each in names if is_beside(each)]


def _marks(place: Path, images: list[str], known: list[str], masks: str | None, boxes: str | None) -> Marks | None:
    """Return where the objects are, from the one source that says it. known: masks beside images."""
    sources = [f"{len(known):,} {BESIDE} beside the images"] * bool(known)
    sources += [f"data.masks={masks}"] * bool(masks) + [f"data.boxes={boxes}"] * bool(boxes)
    if len(sources) > 1:
        raise RapbenchError(f"{' and '.join(sources)} both say where the objects are; leave one of them out")
    if known:
        return beside(place, images, known)
    if masks:
        return masks_in(masks, images)
    return boxes_of(boxes, images) if boxes else None
