"""ImageNet's development kit: the validation images' classes, under numbers that are not in the synsets' order."""

from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.data.layouts.bounded import Bounded, small_members
from rapbench.data.layouts.mat import read_structures
from rapbench.data.layouts.synsets import synset_index

GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
META = "meta.mat"
FIELDS = ("ILSVRC2012_ID", "WNID", "num_children")
MOST_FILE = 16 << 20  # bytes of one of the two files; they have some hundred thousand
MOST_ARCHIVE = 256 << 20  # bytes of the archive, unpacked, up to the last of the two; some 4 million


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
        text, meta = (_bytes(file) for file in (path, path.with_name(META)))
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


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return Bounded(file, MOST_FILE).read()
    except OSError as error:
        raise RapbenchError(f"{path} cannot be read ({error.strerror or error})") from error


def _member(path: Path, name: str) -> bytes:
    try:
        for _, data in small_members(path, lambda found: found.rsplit("/", 1)[-1] == name, MOST_FILE, MOST_ARCHIVE):
            return data
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise RapbenchError(f"{path} cannot be read as the devkit's archive ({error}); download it again") from error
    raise RapbenchError(f"{path} holds no {name}; expected ImageNet's ILSVRC2012_devkit_t12.tar.gz")


def _classes(meta: bytes, where: Path) -> dict[str, int]:
    """Return the class index of each ILSVRC2012_ID, as text, that belongs to a synset without children."""
    try:
        synsets = read_structures(meta, "synsets", FIELDS)
        pairs = [(f"{s['ILSVRC2012_ID']:g}", str(s["WNID"])) for s in synsets if s["num_children"] == 0]
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        raise RapbenchError(f"{where}: {META} is not the devkit's ({str(error) or type(error).__name__}); download it "
                            "again") from error  # fmt: skip
    if unknown := [wnid for _, wnid in pairs if wnid not in synset_index()]:
        raise RapbenchError(f"{where}: {META} has classes that are not ILSVRC-2012's: {', '.join(unknown[:5])[:99]}")
    return {number: synset_index()[wnid] for number, wnid in pairs}
