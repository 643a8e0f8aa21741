"""The comparison of runs that are over, from the folders that they wrote."""

import os
from collections.abc import Sequence
from pathlib import Path

from rapbench.api.results import load_results
from rapbench.core.errors import RapbenchError
from rapbench.report.compare import write_comparison
from rapbench.results.file import NAME


def compare_folders(folders: Sequence[str | Path], output: Path, missing: Sequence[str] = ()) -> str:
    """Compare the runs in folders, or below them, and return the text for a terminal.

    Parameters
    ----------
    folders : sequence of path
        Of runs, or above several.
    output : path
        Where `write_comparison` writes.
    missing : sequence of str
        Runs that should be among them and have no results.

    Raises
    ------
    RapbenchError
        Where there are not two runs at least, or two that nothing tells apart.
    """
    if (output / NAME).exists():
        raise RapbenchError(f"{output} is a run's own folder; name another for the comparison with --output")
    results = load_results(*folders)
    if len(results.runs) < 2:
        given = ", ".join(map(str, folders))
        raise RapbenchError(f"a comparison takes two runs at least, and {given} holds one; name more folders")
    text = write_comparison(output, results, missing)
    return f"{text}\nThe comparison is written to {output}/"


def common_parent(folders: Sequence[Path]) -> Path:
    """Return the folder that all are in, or are. Raises RapbenchError where that is the whole disk."""
    try:
        place = Path(os.path.commonpath([os.path.abspath(folder) for folder in folders]))
    except ValueError:  # on several drives
        place = Path("/")
    if place == place.parent:
        raise RapbenchError("the folders have no common parent; name a folder for the comparison with --output")
    return Path(os.path.relpath(place)) if not folders[0].is_absolute() else place
