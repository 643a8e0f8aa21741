"""The report of a run that is over, from what lies in its folder."""

from pathlib import Path

from rapbench.errors import RapbenchError
from rapbench.report import write_report
from rapbench.report.provenance import provenance_of
from rapbench.results.file import NAME, read


def write_again(top: Path) -> str:
    """Write the reports of a run's folder, or of all runs below a folder, and return their text for a terminal.

    Raises RapbenchError where there is no run, or a file of one cannot be read.
    """
    found = [top] if (top / NAME).exists() else below(top)
    if not found:
        raise RapbenchError(f"{top} holds no {NAME}; name the folder that a run wrote")
    texts = []
    for folder in found:
        header = provenance_of(folder).get("header", [])
        text = write_report(folder, read(folder / NAME), header)
        texts.append(f"{text}\nWritten to {folder}/")
    return "\n\n".join(texts)


def below(top: Path) -> list[Path]:
    """Return the folders of runs below a folder."""
    return sorted(path.parent for path in top.rglob(NAME))
