"""What the owner of a store asks of it: what is there, is it sound, and what can go."""

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rapbench.errors import RapbenchError
from rapbench.registry import NotNamed, allow_modules, names_from
from rapbench.say import say
from rapbench.store.cell import CELLS, open_table
from rapbench.store.heatmaps import GALLERY, HEATMAPS
from rapbench.store.sealed import SEALED, SET_ASIDE, Damaged, read_sealed, sealed_in

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


def collect(
    store: Path,
    *,
    stale: bool = False,
    heatmaps: bool = False,
    dry_run: bool = False,
    allow_module: Sequence[str] = (),
) -> str:
    """Remove what no run needs: damaged files set aside, leftovers of killed runs, and what is asked for.

    stale: results that this version of the code and its packages would not use. allow_module: modules of the user's own
    that results may be of; those of others are kept. Returns what was removed.
    """
    allow_modules(allow_module)
    doomed: dict[str, list[Path]] = {"set aside": list(_files(_existing(store) / SET_ASIDE))}
    doomed["leftovers of killed runs"] = [path for path in _files(store) if _temporary(path) and _old(path, store)]
    finished = {name for name, files in _cells(store) if not _in_progress(files)}
    folders = [folder for folder in (store / CELLS).glob("*/*.parts") if folder.stem in finished or not any(
        sealed_in(folder))]  # fmt: skip
    doomed["chunks of finished cells"] = [path for folder in folders for path in _files(folder)]
    if stale:
        doomed["results of other versions"] = [path for _, files in _cells(store) if _stale(files[0]) for path in files]
    if heatmaps:
        doomed["heatmaps"] = [path for room in (HEATMAPS, GALLERY) for path in _files(store / room)]
    lines = []
    for what, paths in doomed.items():
        size = sum(path.stat().st_size for path in paths)
        lines += [f"{what}: {len(paths)} files, {_size(size)}"] if paths else []
        for path in paths if not dry_run else []:
            path.unlink(missing_ok=True)
    for folder in folders if not dry_run else []:
        shutil.rmtree(folder, ignore_errors=True)
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


def _stale(path: Path) -> bool:
    from rapbench.methods import methods
    from rapbench.protocols import protocols
    from rapbench.runner.identity import code_version, versions

    try:
        key: dict[str, Any] = open_table(path)[0]["key"]
        codes = [(key["method"], methods), (key["protocol"], protocols)]
        with names_from(path):
            return key["versions"] != versions() or any(
                part["code"] != code_version(registry[part["name"]]) for part, registry in codes
            )
    except NotNamed as reason:
        say(f"kept: {reason}")
        return False
    except (Damaged, KeyError, RapbenchError):
        return True


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
