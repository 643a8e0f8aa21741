"""ImageNet's development kit: the validation images' classes, under numbers that are not in the synsets' order."""

import io
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from rapbench.data._synsets import synset_index
from rapbench.errors import RapbenchError

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"


def read_devkit(path: Path) -> dict[str, int]:
    """Return each validation image's class index by its number, "1" for the first.

    path: the ground-truth file, with meta.mat beside it, or the kit's archive, read in place. Line i of the former is
    image i's ILSVRC2012_ID, which the latter maps to a synset. Raises RapbenchError that names the file and the line.
    """
    if path.suffix == ".txt":
        if not path.with_name(META).is_file():
            raise RapbenchError(
                f"{path} needs the devkit's {META} beside it: its class numbers are not in the synsets' order"
            )
        text, meta = (file.read_bytes() for file in (path, path.with_name(META)))
        where = path.with_name(META)
    else:
        text, meta = (_member(path, name) for name in (GROUND_TRUTH, META))
        where = path
    classes = _classes(meta, where)
    found = {}
    lines = text.decode("utf-8-sig", errors="replace").rstrip().split("\n")
    for number, line in enumerate(lines, start=1):
        if line.strip() not in classes:
            raise RapbenchError(
                f"{path}, line {number}: {line.strip()[:40]!r} is no ILSVRC2012_ID of a class in {META}"
            )
        found[str(number)] = classes[line.strip()]
    return found


def _member(path: Path, name: str) -> bytes:
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name.rsplit("/", 1)[-1] == name else None
                if file:
                    return file.read()
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise RapbenchError(f"{path} cannot be read as the devkit's archive ({error}); download it again") from error
    raise RapbenchError(f"{path} holds no {name}; expected ImageNet's ILSVRC2012_devkit_t12.tar.gz")


def _classes(meta: bytes, where: Path) -> dict[str, int]:
    """Return the class index of each ILSVRC2012_ID, as text, that belongs to a synset without children."""
    from scipy.io import loadmat  # half a second that only this layout should take

    try:
        synsets: Any = np.atleast_1d(loadmat(io.BytesIO(meta), squeeze_me=True)["synsets"])
        pairs = [(str(s["ILSVRC2012_ID"]), str(s["WNID"])) for s in synsets if s["num_children"] == 0]
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise RapbenchError(
            f"{where}: {META} is not the devkit's ({type(error).__name__}); download it again"
        ) from error
    if unknown := [wnid for _, wnid in pairs if wnid not in synset_index()]:
        raise RapbenchError(f"{where}: {META} has classes that are not ILSVRC-2012's: {', '.join(unknown[:5])}")
    return {number: synset_index()[wnid] for number, wnid in pairs}
