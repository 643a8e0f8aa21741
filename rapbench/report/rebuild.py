"""The report of a run that is over, from what lies in its folder."""

from pathlib import Path

from rapbench.report import write_report
from rapbench.results.folder import load_run, run_folders


def write_again(top: Path) -> str:
    """Write the reports of a run's folder, or of all runs below a folder, and return their text for a terminal.

    Raises RapbenchError where there is no run, or a file of one cannot be read.
    """
    return "\n\n".join(f"{write_report(folder, load_run(folder))}\nWritten to {folder}/" for folder in run_folders(top))
