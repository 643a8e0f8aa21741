"""The report of a run that is over, from what lies in its folder."""

from pathlib import Path

from rapbench.errors import RapbenchError
from rapbench.report import write_report
from rapbench.report.provenance import provenance_of
from rapbench.report.stored import NAMES, read_results
from rapbench.report.tables import titled


def write_again(top: Path) -> str:
    """Write the reports of a run's folder, or of all runs below a folder, and return their text for a terminal.

    Raises RapbenchError where there is no run, or a file of one cannot be read.
    """
    found = [top] if any((top / name).exists() for name in NAMES) else below(top)
    if not found:
        raise RapbenchError(f"{top} holds no {', '.join(NAMES[:-1])} or {NAMES[-1]}; name the folder that a run wrote")
    texts = []
    for folder in found:
        provenance = provenance_of(folder)
        images, distances, regions = (
            read_results(folder / name) if (folder / name).exists() else None for name in NAMES
        )
        with titled(provenance.get("titles", {})):
            text = write_report(folder, images, distances, provenance.get("header", []), regions)
        texts.append(f"{text}\nWritten to {folder}/")
    return "\n\n".join(texts)


def below(top: Path) -> list[Path]:
    """Return the folders of runs below a folder."""
    return sorted({path.parent for name in NAMES for path in top.rglob(name)})
