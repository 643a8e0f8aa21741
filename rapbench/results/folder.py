"""Runs that are over, from the folders that they wrote."""

from dataclasses import replace
from pathlib import Path

from rapbench.core.errors import RapbenchError
from rapbench.data.subset.manifest import load_manifest
from rapbench.results.file import NAME, read
from rapbench.results.provenance import provenance_of
from rapbench.results.run import Run

MANIFEST = "manifest.csv"


def run_folders(top: Path) -> list[Path]:
    """Return a run's folder, or those of all runs below a folder. Raises RapbenchError where there is none."""
    found = [top] if (top / NAME).is_file() else sorted(path.parent for path in top.rglob(NAME))
    if not found:
        raise RapbenchError(f"{top} holds no {NAME}; name the folder that a run wrote, or one above it")
    return found


def load_run(folder: Path) -> Run:
    """Return the run that wrote a folder. Raises RapbenchError for a file that is not as a run writes it."""
    manifest = folder / MANIFEST
    subset = load_manifest(manifest) if manifest.exists() else None
    return replace(read(folder / NAME, provenance_of(folder)), subset=subset, shown=folder.resolve())
