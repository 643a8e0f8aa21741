"""ImageNet (ILSVRC-2012 validation) as a user has it on disk: a folder a class, named by its synset."""

import re
from pathlib import Path

from timm.data import ImageNetInfo

from rapbench.data import datasets
from rapbench.data._dataset import Dataset, Sample
from rapbench.errors import RapbenchError

LAYOUT = "expected ROOT/<wnid>/*.JPEG or ROOT/val/<wnid>/*.JPEG with folders such as n01440764"
SUFFIXES = {".jpeg", ".jpg", ".png"}


@datasets.register("imagenet")
def imagenet(*, root: str | None = None) -> Dataset:
    """Return the images below `root`. The label is a synset's index among all 1,000, whatever folders exist.

    Raises RapbenchError for a root that is missing, empty or of another layout, and for an unknown synset.
    """
    if not root:
        raise RapbenchError("the imagenet data set needs data.root (make: IMAGENET=/path)")
    folder = Path(root).expanduser().resolve()
    if not folder.is_dir():
        raise RapbenchError(f"IMAGENET: {folder} is not a folder; {LAYOUT}")
    if (folder / "val").is_dir():
        folder = folder / "val"
    index = {synset: number for number, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    classes = sorted(path for path in folder.iterdir() if re.fullmatch(r"n\d{8}", path.name) and path.is_dir())
    if not classes:
        what = "is empty" if not any(folder.iterdir()) else "has no class folders"
        raise RapbenchError(f"IMAGENET: {folder} {what}; {LAYOUT}")
    if unknown := [path.name for path in classes if path.name not in index]:
        raise RapbenchError(f"IMAGENET: {folder} has folders that are no ILSVRC-2012 class: {', '.join(unknown[:5])}")
    found = [
        Sample(f"{path.name}/{image.name}", index[path.name])
        for path in classes
        for image in sorted(path.iterdir())
        if image.suffix.lower() in SUFFIXES
    ]
    if not found:
        raise RapbenchError(f"IMAGENET: the class folders in {folder} hold no images; {LAYOUT}")
    return Dataset("imagenet", folder, found, f"{len(found):,} ImageNet images in {folder.name}/")
