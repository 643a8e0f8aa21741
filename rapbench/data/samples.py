"""The 20 labelled ImageNet images inside the PyPI package `foolbox` (MIT; the images keep their owners' rights)."""

import re
from importlib.util import find_spec
from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import check_installed
from rapbench.data import datasets
from rapbench.data.labelled.dataset import Dataset, Sample
from rapbench.data.layouts.synsets import CLASSES
from rapbench.data.marks.boxes import boxes_of


@datasets.register("samples")
def samples(*, boxes: str | None = None) -> Dataset:
    """Return the embedded images; their names end in the class index: imagenet_<number>_<class>.jpg.

    boxes: Pascal VOC XML files that you have drawn of them, imagenet_00_243.xml. Raises RapbenchError where the images
    are not installed, and for boxes of none of them.
    """
    check_installed("samples", "data=samples")
    spec = find_spec("foolbox")  # found, not imported: only its files are wanted
    root = Path(str(spec and spec.origin)).parent / "data"
    files = sorted(root.iterdir()) if root.is_dir() else []
    named = [(path.name, re.fullmatch(r"imagenet_\d+_(\d+)\.jpg", path.name)) for path in files]
    found = [Sample(name, int(match[1])) for name, match in named if match]
    if not found:
        raise RapbenchError(f"no sample images in {root}; install foolbox 3.3.4: pip install 'rapbench[samples]'")
    description = f"{len(found)} embedded ImageNet images (package foolbox)"
    marks = boxes_of(boxes, [sample.file for sample in found]) if boxes else None
    return Dataset("samples", root, found, description, embedded=True, classes=CLASSES, marks=marks)
