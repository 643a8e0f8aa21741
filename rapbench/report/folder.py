"""A run's folder: its results, where they come from, and the report."""

import json
from pathlib import Path

from rapbench.core.files import write_whole
from rapbench.report import write_report
from rapbench.results import gallery
from rapbench.results.file import NAME, to_bytes
from rapbench.results.folder import MANIFEST
from rapbench.results.run import Run


def write_run(folder: Path, run: Run) -> str:
    """Write all that `load_results` reads of a run, and its report; return the report's text for a terminal."""
    if run.subset is not None:
        run.subset.save(folder / MANIFEST)
    write_whole(folder / NAME, to_bytes(run))
    if run.about:
        write_whole(folder / "provenance.json", json.dumps(dict(run.about), indent=1).encode())
    if run.gallery is None:
        (folder / gallery.FILE).unlink(missing_ok=True)
    else:
        write_whole(folder / gallery.FILE, run.gallery.save())
    return write_report(folder, run)
