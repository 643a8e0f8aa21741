"""Label files for images that lie flat: Kaggle's CSV, Caffe's val.txt, and the development kit's ground truth."""

import csv
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rapbench.data._dataset import Sample
from rapbench.data._devkit import GROUND_TRUTH, read_devkit
from rapbench.data._folder import SUFFIXES
from rapbench.data._synsets import CLASSES, synset_index
from rapbench.errors import RapbenchError

ARCHIVES = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar")
NAMES = ("LOC_val_solution.csv", "val.txt", GROUND_TRUTH, *ARCHIVES)  # taken in this order
FOLDERS = ("", "devkit/data", "ILSVRC2012_devkit_t12/data", "data", "meta", "annotations")


def find_labels(around: Iterable[Path]) -> Path | None:
    """Return the first label file in these folders and the usual ones below them."""
    places = [folder / below for folder in around for below in FOLDERS]
    return next((place / name for name in NAMES for place in places if (place / name).is_file()), None)


def from_label_file(names: Iterable[str], path: Path) -> list[Sample]:
    """Return the images with the class index that a label file gives them.

    Raises RapbenchError for a file or a line of it that is not understood, and for an image that it does not name.
    """
    of, by_number = _read(path)
    found = []
    for name in names:
        key = _stem(name)
        if by_number:
            number = re.search(r"(\d+)\D*$", key)
            if not number:
                raise RapbenchError(f"{name} has no number in its name, by which {path} gives its label")
            key = str(int(number[1]))
        if key not in of:
            raise RapbenchError(
                f"{path} gives no label for {name} ({len(of):,} lines); is it this data set's, and whole?"
            )
        found.append(Sample(name, of[key]))
    return found


def _read(path: Path) -> tuple[dict[str, int], bool]:
    """Return the labels by the images' stems, or by their numbers (True)."""
    if not path.is_file():
        raise RapbenchError(f"label file {path} is not a file")
    if path.suffix.lower() in (".gz", ".tgz", ".tar"):
        return read_devkit(path), True
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise RapbenchError(f"label file {path} cannot be read as text ({error})") from error
    if not any(lines):
        raise RapbenchError(f"label file {path} is empty")
    if path.suffix.lower() == ".csv":
        return _collect(_kaggle(path, lines), path), False
    if lines[0].strip().isdecimal():
        return read_devkit(path), True
    return _collect(_caffe(path, lines), path), False


def _kaggle(path: Path, lines: list[str]) -> Iterator[tuple[int, str, int]]:
    reader = csv.reader(lines)
    if next(reader) != ["ImageId", "PredictionString"]:
        raise RapbenchError(f"{path}, line 1: expected the header ImageId,PredictionString, found {lines[0][:60]!r}")
    for row in reader:
        tokens = row[1].split() if len(row) == 2 else []
        if not tokens or tokens[0] not in synset_index():
            raise RapbenchError(f"{path}, line {reader.line_num}: expected an image and a synset, found {row!r:.80}")
        yield reader.line_num, row[0], synset_index()[tokens[0]]


def _caffe(path: Path, lines: list[str]) -> Iterator[tuple[int, str, int]]:
    for number, line in enumerate(lines, start=1):
        tokens = line.rsplit(None, 1)
        if len(tokens) != 2 or not tokens[1].isdecimal():
            raise RapbenchError(f"{path}, line {number}: expected a file name and a class index, found {line[:60]!r}")
        if int(tokens[1]) >= CLASSES:
            raise RapbenchError(f"{path}, line {number}: class index {tokens[1]} is not in 0..{CLASSES - 1}")
        yield number, tokens[0], int(tokens[1])


def _collect(entries: Iterator[tuple[int, str, int]], path: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    for number, name, label in entries:
        if found.setdefault(_stem(name), label) != label:
            raise RapbenchError(f"{path}, line {number}: {name} has another label in an earlier line")
    return found


def _stem(name: str) -> str:
    """Return a file's name without folders and without an image's suffix."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    return last[: last.rindex(".")] if last.lower().endswith(SUFFIXES) else last
