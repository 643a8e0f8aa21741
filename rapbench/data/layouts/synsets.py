"""ImageNet's 1,000 classes: a class index is a synset's place among them all, sorted."""

import functools
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import Sample

CLASSES = 1000
WNID = re.compile(r"n\d{8}")


@functools.cache
def synset_index() -> dict[str, int]:
    """Return each synset's class index."""
    from timm.data import ImageNetInfo

    return {synset: number for number, synset in enumerate(ImageNetInfo("imagenet-1k").label_names())}


def in_class_folders(names: Iterable[str], where: Path) -> list[Sample]:
    """Return those files whose folder is named by a synset, with its class index; RapbenchError for an unknown one."""
    folders = {name: PurePosixPath(name).parent.name for name in names}
    refuse_unknown({folder for folder in folders.values() if WNID.fullmatch(folder)}, where)
    return [Sample(name, synset_index()[folder]) for name, folder in folders.items() if WNID.fullmatch(folder)]


def refuse_unknown(synsets: Iterable[str], where: Path) -> None:
    """Raise RapbenchError for folders that are named by a synset which is not among the 1,000."""
    if unknown := sorted(set(synsets) - synset_index().keys()):
        raise RapbenchError(f"IMAGENET: {where} has folders that are no ILSVRC-2012 class: {', '.join(unknown[:5])}")
