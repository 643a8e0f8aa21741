"""The manifest: which images a run uses, and what the model that chose them said of each."""

import csv
import hashlib
import io
import re
from dataclasses import dataclass, fields
from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole
from rapbench.core.reading import read_text
from rapbench.core.spreadsheet import cell, from_cell
from rapbench.data.labelled.dataset import is_inside

# Of `also`, and of a logit as Python writes it.
OTHERS = re.compile(r"(?P<name>\S.*?)@(?P<weights>[0-9a-f]{64})(?: |$)")
FINITE = re.compile(r"[-+]?\d{1,40}(\.\d{0,40})?(e[-+]?\d{1,2})?", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True)
class Row:
    """A manifest's line: an image, its identity, and the logit of its label under the model that chose it.

    also: the other models that had to classify it correctly, each as name@weights_sha256, with blanks between.
    """

    file: str
    label: int
    sha256: str
    logit: float
    model: str
    weights_sha256: str
    also: str = ""

    @property
    def others(self) -> list[tuple[str, str]]:
        """The name and the weights' SHA-256 of each model in `also`; a checkpoint's name may hold blanks."""
        return [(match["name"], match["weights"]) for match in OTHERS.finditer(self.also)]


NEEDED = [field.name for field in fields(Row) if field.name != "also"]


@dataclass(frozen=True)
class Subset:
    """The images of a run, in the order of the draw. drawn: images looked at. broken: those skipped."""

    rows: list[Row]
    drawn: int | None = None
    broken: tuple[str, ...] = ()

    @property
    def identity(self) -> str:
        """SHA-256 over every image's content and label, in order."""
        return hashlib.sha256("\n".join(f"{row.sha256} {row.label}" for row in self.rows).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write the manifest as CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([field.name for field in fields(Row)])
        for row in self.rows:
            values = [getattr(row, field.name) for field in fields(Row)]
            writer.writerow([cell(value) if isinstance(value, str) else value for value in values])
        write_whole(path, text.getvalue().encode())


def load_manifest(path: Path) -> Subset:
    """Read a manifest, also as a spreadsheet writes it: a byte order mark, other line ends, empty cells behind a row.

    Raises RapbenchError that names the line that is not understood, and an image that is there twice.
    """
    if not path.is_file():
        raise RapbenchError(f"{path} is not a file; a manifest is the manifest.csv that a run writes")
    text = read_text(path)
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[Row] = []
    seen: dict[str, int] = {}
    try:
        names = [name.strip() for name in next(lines, [])]
        if missing := [name for name in NEEDED if name not in names]:
            many = "; ".join(["", "its columns are separated by semicolons"]) if ";" in "".join(names) else ""
            raise RapbenchError(
                f"{path}, line 1: not a manifest line, it has no column {missing[0]}{many}; a manifest is the "
                "manifest.csv that a run writes"
            )
        for cells in lines:
            if any(cells):
                row = _row(dict(zip(names, cells, strict=False)), cells, names, f"{path}, line {lines.line_num}")
                if row.file in seen:
                    raise RapbenchError(
                        f"{path}, line {lines.line_num}: {row.file} is in line {seen[row.file]}, too; remove one"
                    )
                seen[row.file] = lines.line_num
                rows.append(row)
    except csv.Error as error:
        raise RapbenchError(f"{path}, line {lines.line_num}: not a manifest line ({error})") from error
    if not rows:
        raise RapbenchError(f"{path} names no images")
    return Subset(rows)


def _row(of: dict[str, str], cells: list[str], names: list[str], where: str) -> Row:
    wrong = ""
    if any(cells[len(names) :]):
        wrong = f"{len(cells)} cells for {len(names)} columns"
    elif missing := [name for name in NEEDED if not of.get(name)]:
        wrong = f"its {missing[0]} is empty"
    elif "\0" in "".join(cells):
        wrong = "a null character"
    elif not re.fullmatch("[0-9]{1,9}", of["label"]):
        wrong = f"label {of['label']:.40} is not a class index"
    elif not re.fullmatch("[0-9a-f]{64}", of["sha256"]):
        wrong = f"sha256 {of['sha256']:.40} is not a SHA-256"
    elif not FINITE.fullmatch(of["logit"]):
        wrong = f"logit {of['logit']:.40} is not a number"
    elif OTHERS.sub("", of.get("also", "")).strip():
        wrong = f"also {of['also']:.40} is not a list of model@weights_sha256"
    if wrong:
        raise RapbenchError(f"{where}: not a manifest line: {wrong}")
    file, model, also = (from_cell(of.get(name, "")) for name in ("file", "model", "also"))
    if not is_inside(file):
        raise RapbenchError(f"{where}: {file!r} leads out of the data set; a manifest names files within it")
    return Row(file, int(of["label"]), of["sha256"], float(of["logit"]), model, of["weights_sha256"], also)
