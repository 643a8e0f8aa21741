"""A run that is asked for again: whether what it would write lies in its folder already, byte for byte.

written.json tells of what the files there were made, each one's hash, and the text for the terminal.
"""

import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from rapbench.core.files import file_hash, open_regular, write_whole
from rapbench.core.package import FOLDER
from rapbench.core.paths import resource
from rapbench.report import FILES, START
from rapbench.results.file import NAME
from rapbench.results.gallery import FILE as GALLERY
from rapbench.store.contents import digest_of

RECORD = "written.json"
OURS = ("manifest.csv", "provenance.json", GALLERY, NAME, *FILES)
# What figures and pages are made with, beside the packages that results depend on.
PACKAGES = ("jinja2", "matplotlib", "plotly", "statsmodels", "tabulate")
ANEW = ("started", "seconds", "git")  # of the provenance: what differs in every run


def made_of(provenance: dict[str, Any], results: Any) -> str:
    """Return a fingerprint of all that a run's files depend on: what was run, its results, code, packages."""
    about = {name: value for name, value in provenance.items() if name not in ANEW}
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return digest_of([about, results, packages, _code()])


def text_of(folder: Path, fingerprint: str) -> str | None:
    """Return the text of the run that wrote a folder, if its files are there unchanged and were made of the same."""
    try:
        with open_regular(folder / RECORD) as file:
            record = json.loads(file.read())
        if record["made_of"] == fingerprint and record["files"] == _hashes(folder):
            return str(record["text"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None


def record(folder: Path, fingerprint: str, text: str) -> None:
    """Note what a run has written into a folder, and of what."""
    about = {"made_of": fingerprint, "files": _hashes(folder), "text": text}
    write_whole(folder / RECORD, json.dumps(about, indent=1).encode())


def _hashes(folder: Path) -> dict[str, str]:
    others = sorted(path.name for path in folder.glob(f"{START}*"))
    return {name: file_hash(folder / name) for name in (*OURS, *others) if (folder / name).is_file()}


@functools.cache
def _code() -> str:
    """Return a hash over the package's files and the published numbers; comments count, as nothing is lost by that."""
    digest = hashlib.sha256()
    for top in (FOLDER, resource("baselines", "published")):
        for path in sorted(top.rglob("*")):
            if path.is_file() and path.suffix not in (".pyc", ".yaml"):
                digest.update(f"{path.relative_to(top)}\0".encode() + path.read_bytes())
    return digest.hexdigest()
