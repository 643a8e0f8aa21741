"""Label files for images that lie flat: Kaggle's CSV, Caffe's val.txt, and the development kit's ground truth."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.core.reading import lines_of, read_text
from rapbench.data.labelled.dataset import Sample
from rapbench.data.layouts.devkit import GROUND_TRUTH, read_devkit
from rapbench.data.layouts.image_files import SUFFIXES
from rapbench.data.layouts.synsets import CLASSES, synset_index

ARCHIVES = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar")
NAMES = ("LOC_val_solution.csv", "val.txt", GROUND_TRUTH, *ARCHIVES)  # taken in this order
INDEX = re.compile("[0-9]{1,9}")
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
    if path.suffix.lower() in (".gz", ".tgz", ".tar") and path.is_file():
        return read_devkit(path), True
    text = read_text(path, what="label file")
    first = next((line.strip() for line in lines_of(text) if line.strip()), None)
    if first is None:
        raise RapbenchError(f"label file {path} is empty")
    if path.suffix.lower() == ".csv":
        return _collect(_kaggle(path, text), path), False
    if INDEX.fullmatch(first):
        return read_devkit(path), True
    return _collect(_caffe(path, text), path), False


def _kaggle(path: Path, text: str) -> Iterator[tuple[int, str, int]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    head = True
    try:
        for row in reader:
            cells = [cell.strip() for cell in row]
            while cells and not cells[-1]:  # as spreadsheets leave them
                cells.pop()
            where = f"{path}, line {reader.line_num}"
            if not cells:
                continue
            if head:
                if cells != ["ImageId", "PredictionString"]:
                    found = ",".join(row)[:60]
                    raise RapbenchError(f"{where}: expected the header ImageId,PredictionString, found {found!r}")
                head = False
                continue
            tokens = cells[1].split() if len(cells) == 2 else []
            if not tokens or tokens[0] not in synset_index():
                raise RapbenchError(f"{where}: expected an image and a synset, found {row!r:.80}")
            yield reader.line_num, cells[0], synset_index()[tokens[0]]
    except csv.Error as error:
        raise RapbenchError(f"{path}, line {reader.line_num}: not a line of CSV ({error})") from error


def _caffe(path: Path, text: str) -> Iterator[tuple[int, str, int]]:
    for number, line in enumerate(lines_of(text), start=1):
        if not line.strip():
            continue
        tokens = line.rsplit(None, 1)
        if len(tokens) != 2 or not INDEX.fullmatch(tokens[1]):
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
