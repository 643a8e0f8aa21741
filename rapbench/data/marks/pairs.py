"""Which file says something of which image, by their names."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from rapbench.core.errors import RapbenchError


def without_suffix(name: str) -> str:
    """Return a name within a data set without its last suffix, `a/dog` of `a/dog.jpg`."""
    return PurePosixPath(name).with_suffix("").as_posix()


def paired(
    images: Sequence[str], files: Sequence[str], setting: str, key: Callable[[str], str] = str, wrapped: bool = False
) -> dict[str, str]:
    """Return the file that belongs to each image, as far as there is one.

    They belong together where `key` makes the same of both names without their suffixes: by default, where the paths
    are the same. wrapped: where none are, the folder that all the files are in is left out of their names. Raises
    RapbenchError, which names the setting, for two images or two files with the same key.
    """
    mine = _keyed(images, lambda name: key(without_suffix(name)))
    found = _matched(mine, _keyed(files, lambda name: key(without_suffix(name))), setting)
    if not found and wrapped and (shared := _shared(files)):
        found = _matched(mine, _keyed(files, lambda name: key(without_suffix(name[shared:]))), setting)
    return found


def _keyed(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(key(name), []).append(name)
    return found


def _matched(images: dict[str, list[str]], files: dict[str, list[str]], setting: str) -> dict[str, str]:
    found = {}
    for key, names in images.items():
        if key not in files:
            continue
        for several, what in ((names, "images"), (files[key], "files")):
            if len(several) > 1:
                raise RapbenchError(
                    f"{setting}: {several[0]} and {several[1]} have the same name but for folder or suffix, so it is "
                    f"not known which of the {what} is meant; rename or remove one"
                )
        found[names[0]] = files[key][0]
    return found


def _shared(names: Sequence[str]) -> int:
    """Return the length of the path of the folder that all of these are in, with its slash; 0 for none."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    common = 0
    while all(len(parts) > common and parts[common] == folders[0][common] for parts in folders):
        common += 1
    return sum(len(part) + 1 for part in folders[0][:common]) if folders else 0
