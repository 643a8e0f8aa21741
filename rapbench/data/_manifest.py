"""The manifest: which images a run uses, and what the model that chose them said of each."""

import csv
import hashlib
import io
from dataclasses import dataclass, fields
from pathlib import Path

from rapbench.data._dataset import is_inside
from rapbench.errors import RapbenchError
from rapbench.files import write_whole
from rapbench.spreadsheet import cell, from_cell


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


@dataclass(frozen=True)
class Subset:
    """The images of a run, in the order of the draw. drawn: images looked at. broken: those left out."""

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
    """Read a manifest; RapbenchError names the line that is not understood."""
    if not path.is_file():
        raise RapbenchError(f"{path} is not a file; a manifest is the manifest.csv that a run writes")
    rows = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, line in enumerate(csv.DictReader(file), start=2):
            try:
                image, model, also = (from_cell(text) for text in (line["file"], line["model"], line.get("also") or ""))
                row = Row(image, int(line["label"]), line["sha256"], float(line["logit"]), model,
                          line["weights_sha256"], also)  # fmt: skip
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise RapbenchError(f"{path}, line {number}: not a manifest line ({error!r})") from None
            if not is_inside(row.file):
                raise RapbenchError(f"{path}, line {number}: {row.file!r} leads out of the data set; a manifest names "
                                    "files within it")  # fmt: skip
            rows.append(row)
    if not rows:
        raise RapbenchError(f"{path} names no images")
    return Subset(rows)
