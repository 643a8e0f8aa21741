"""What the owner of a store asks of it: what is there, is it sound, and what can go."""

import functools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.errors import RapbenchError
from rapbench.fingerprint.code import is_stale
from rapbench.store.cell import CELLS, LABEL, open_table
from rapbench.store.heatmaps import GALLERY, HEATMAPS
from rapbench.store.heatmaps import LABEL as HEATMAPS_LABEL
from rapbench.store.sealed import DRAWS, SEALED, SET_ASIDE, Damaged, read_sealed, sealed_in

MOST = 1 << 24  # bytes of a header
COLUMNS = ("model", "data", "images", "method", "protocol")


class UnsoundError(RapbenchError):
    """A store with files that are not as they were written."""

    code = 1


def listing(store: Path) -> str:
    """Return a table of the cells."""
    from tabulate import tabulate

    rows: list[list[str]] = []
    for name, files in _cells(_existing(store)):
        try:
            label, _ = open_table(files[0])
        except Damaged as reason:
            rows.append([name[:8], *("" for _ in COLUMNS), f"damaged: {reason}"])
            continue
        about = label["about"]
        state = f"{len(files)} of {about['chunks']} chunks" if _in_progress(files) else "finished"
        rows.append([name[:8], *(about[column] for column in COLUMNS), state])
    if not rows:
        return f"{store} has no cells."
    headings = ["cell", *COLUMNS, "state"]
    size = sum(path.stat().st_size for path in _files(store))
    return tabulate(sorted(rows), headings) + f"\n{len(rows)} cells, {_size(size)} in all"


def verify(store: Path) -> str:
    """Return that every file is sound. Raises UnsoundError that names those that are not."""
    sound, bad = 0, []
    versions: dict[str, Path] = {}
    for path in _files(_existing(store)):
        part = path.relative_to(store).parts
        if part[0] == SET_ASIDE or path.suffix == ".lock" or _temporary(path):
            continue
        match = SEALED.fullmatch(path.name)
        place = str(path.parent / match["name"]) if match else ""
        try:
            if match is None:
                raise Damaged("it is not a file of this store")
            if part[0] == CELLS:
                open_table(path)
            else:
                read_sealed(path)
            if place in versions:
                raise Damaged(f"{versions[place].name} holds other results of the same")
            versions[place] = path
            sound += 1
        except FileNotFoundError:
            pass
        except Damaged as reason:
            bad.append(f"{path}: {reason}")
    if bad:
        raise UnsoundError(f"{len(bad)} of {sound + len(bad)} files are not as they should be: {'; '.join(bad)}")
    return f"{store} is sound: {sound} files."


def collect(store: Path, *, stale: bool = False, heatmaps: bool = False, dry_run: bool = False) -> str:
    """Remove what no run needs: damaged files set aside, leftovers of killed runs, and what is asked for.

    stale: results, heatmaps and draws that this version of the code and its packages would not use. What depends on a
    module of the user's own that is not found from here stays, and is counted. Returns what was removed.
    """
    doomed: dict[str, list[Path]] = {"set aside": list(_files(_existing(store) / SET_ASIDE))}
    doomed["leftovers of killed runs"] = [path for path in _files(store) if _temporary(path) and _old(path, store)]
    finished = {name for name, files in _cells(store) if not _in_progress(files)}
    folders = [folder for folder in (store / CELLS).glob("*/*.parts") if folder.stem in finished or not any(
        sealed_in(folder))]  # fmt: skip
    doomed["chunks of finished cells"] = [path for folder in folders for path in _files(folder)]
    unknown: list[Path] = []
    if stale:
        groups = [files for _, files in _cells(store)] + [
            files for room in (HEATMAPS, GALLERY, DRAWS) for folder in sorted((store / room).glob("*"))
            if (files := [path for _, path in sealed_in(folder)])
        ]  # fmt: skip
        found: list[Path] = []
        doomed["results of other versions"] = found
        known = functools.cache(is_stale)  # thousands of files, of a few codes
        for files in groups:
            state = _stale(files[0], known)
            (found if state else unknown if state is None else []).extend(files)
    if heatmaps:
        already = set(doomed.get("results of other versions", ()))
        doomed["heatmaps"] = [path for room in (HEATMAPS, GALLERY) for path in _files(store / room)
                              if path not in already]  # fmt: skip
    lines = []
    for what, paths in doomed.items():
        size = sum(path.stat().st_size for path in paths)
        lines += [f"{what}: {len(paths)} files, {_size(size)}"] if paths else []
        for path in paths if not dry_run else []:
            path.unlink(missing_ok=True)
    for folder in folders if not dry_run else []:
        shutil.rmtree(folder, ignore_errors=True)
    if unknown:
        kept = f"Kept, as their own code is not found from here: {len(unknown)} files."
        if not lines:
            return f"Nothing to remove in {store}. {kept}"
        lines.append(kept)
    if not lines:
        return f"Nothing to remove in {store}."
    return "\n".join([("Would remove" if dry_run else "Removed") + f" from {store}:", *lines])


def _existing(store: Path) -> Path:
    if not store.is_dir():
        raise RapbenchError(f"{store} is not there; name the folder that holds it with --results")
    return store


def _files(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(names))


def _cells(store: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each cell's digest with its finished file, or its chunks."""
    for folder in sorted((store / CELLS).glob("*")):
        finished = {name: [path] for name, path in sealed_in(folder)}
        parts = {entry.stem: [path for _, path in sealed_in(entry)] for entry in sorted(folder.glob("*.parts"))}
        yield from sorted(({name: paths for name, paths in parts.items() if paths} | finished).items())


def _in_progress(files: list[Path]) -> bool:
    return files[0].parent.suffix == ".parts"


def _temporary(path: Path) -> bool:
    return path.name.startswith(".")


def _old(path: Path, store: Path) -> bool:
    """Whether nobody can be writing it any more: an hour old, by the disk's own clock."""
    probe = store / ".now"
    probe.touch()
    try:
        return probe.stat().st_mtime - path.stat().st_mtime > 3600
    finally:
        probe.unlink()


def _stale(path: Path, is_stale: Callable[..., bool | None]) -> bool | None:
    """Whether a file is of other code or packages than are here; None where that cannot be told."""
    try:
        key = key_in(path)
        codes = [(tuple(code["roots"]), str(code["sha256"])) for code in key["code"].values()]
        versions = tuple(sorted(key["versions"].items()))
    except FileNotFoundError:
        return False
    except (Damaged, KeyError, TypeError, ValueError, AttributeError, pa.ArrowException):
        return True  # no version would use it
    states = [is_stale(*code, versions) for code in codes]
    return True if True in states or not states else None if None in states else False


def key_in(path: Path) -> dict[str, Any]:
    """Return the key that a file of the store says it is of, without reading all of it."""
    if path.suffix == ".parquet":
        label = (pq.read_schema(path).metadata or {})[LABEL]
    elif path.suffix == ".safetensors":
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            label = json.loads(file.read(min(size, MOST)))["__metadata__"][HEATMAPS_LABEL]
    else:
        label = read_sealed(path)
    return json.loads(label)["key"]


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
