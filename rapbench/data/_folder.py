"""Any folder of images, without labels."""

from pathlib import Path

from rapbench.data._dataset import Dataset, Sample
from rapbench.errors import RapbenchError

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".webp")
UNLABELLED = -1


def image_folder(root: str) -> Dataset:
    """Return the images below `root`, at any depth. Raises RapbenchError when it is no folder or holds none."""
    folder = Path(root).expanduser().resolve()
    if not folder.is_dir():
        raise RapbenchError(f"{folder} is not a folder of images")
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*")
                   if path.suffix.lower() in SUFFIXES and path.is_file())  # fmt: skip
    if not names:
        raise RapbenchError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return Dataset("folder", folder, [Sample(name, UNLABELLED) for name in names], f"{len(names):,} below {folder}")
