"""What the owner of a store asks of it: what is there, is it sound, and what can go."""

import errno
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rapbench.core.errors import RapbenchError
from rapbench.core.files import NOT_THE_FILES, abandoned, cannot_write, open_regular
from rapbench.store.cell import CELLS, LABEL, label_of
from rapbench.store.claim import Claim
from rapbench.store.contents import DRAWS, GALLERY, HEATMAPS, check_place, draw_label, heatmap_label
from rapbench.store.contents import LABEL as METADATA
from rapbench.store.sealed import SEALED, SET_ASIDE, SWEEPS, Damaged, is_chunk_name, read_sealed, sealed_in

SUFFIXES = {CELLS: "parquet", HEATMAPS: "safetensors", GALLERY: "safetensors", DRAWS: "json"}
HOUR = 3600.0
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
            about = label_of(files[0])["about"]
        except (Damaged, FileNotFoundError, RapbenchError) as reason:
            rows.append([name[:8], *("" for _ in COLUMNS), f"damaged: {reason}"])
            continue
        state = f"{len(files)} of {about.get('chunks')} chunks" if _in_progress(files) else "finished"
        rows.append([name[:8], *(about.get(column, "") for column in COLUMNS), state])
    if not rows:
        return f"{store} has no cells."
    headings = ["cell", *COLUMNS, "state"]
    return tabulate(sorted(rows), headings) + f"\n{len(rows)} cells, {_size(_bytes(_files(store)))} in all"


def verify(store: Path) -> str:
    """Return that every file is sound. Raises UnsoundError that names those that are not."""
    sound, bad = 0, []
    versions: dict[str, Path] = {}
    for path in _files(_existing(store)):
        room = path.relative_to(store).parts[0]
        if room in (SET_ASIDE, SWEEPS) or path.suffix == ".lock" or _temporary(path):
            continue
        try:
            _check(path, room)
            place = str(path.parent / path.name.rpartition("-")[0])
            if place in versions and room != DRAWS:  # of which there are several where images have changed
                raise Damaged(f"{versions[place].name} holds other results of the same")
            versions[place] = path
            sound += 1
        except FileNotFoundError:
            pass
        except (Damaged, RapbenchError) as reason:
            bad.append(f"{path}: {reason}")
    if bad:
        raise UnsoundError(f"{len(bad)} of {sound + len(bad)} files are not as they should be: {'; '.join(bad)}")
    return f"{store} is sound: {sound} files."


def collect(store: Path, *, stale: bool = False, heatmaps: bool = False, dry_run: bool = False) -> str:
    """Remove what no run needs: damaged files set aside, leftovers of killed runs, and what is asked for.

    Chunks that a process is computing stay, and so do those beside them.

    Parameters
    ----------
    store : Path
        The store's folder.
    stale : bool
        Also results, heatmaps and draws that this version of the code and its packages would not use. What depends on a
        module of the user's own that is not found from here stays, and is counted.
    heatmaps : bool
        Also all heatmaps.
    dry_run : bool
        Only say what would be removed.

    Returns
    -------
    str
        What was removed, for the terminal.
    """
    now = _now(_existing(store))
    doomed: dict[str, list[Path]] = {"set aside": list(_files(store / SET_ASIDE))}
    doomed["leftovers of killed runs"] = [
        path for path in _files(store) if _temporary(path) and _is_over(path, now) and _left(path)
    ]
    doomed["notes of killed sweeps"] = list(_notes(store, now))
    cells = list(_cells(store))
    finished = {name for name, files in cells if not _in_progress(files)}
    folders = {folder: [path for path in _files(folder) if path.suffix != ".lock"] for folder in _parts(store)}
    unneeded = {folder: paths for folder, paths in folders.items() if folder.stem in finished or not paths}
    doomed["chunks of finished cells"] = [path for paths in unneeded.values() for path in paths]
    old: list[list[Path]] = []
    unknown: list[Path] = []
    if stale:
        groups = [files for _, files in cells] + [
            files for room in (HEATMAPS, GALLERY, DRAWS) for folder in sorted((store / room).glob("*"))
            if (files := [path for _, path in sealed_in(folder)])
        ]  # fmt: skip
        from rapbench.fingerprint.code import is_stale  # and torch with it: two seconds that nothing else here takes

        known = functools.cache(is_stale)  # thousands of files, of a few codes
        for files in groups:
            state = _stale(files[0], known)
            old += [files] if state else []
            unknown += files if state is None else []
        unneeded |= {files[0].parent: files for files in old if _in_progress(files)}
        doomed["results of other versions"] = [path for files in old for path in files]
    if heatmaps:
        already = {path for files in old for path in files}
        doomed["heatmaps"] = [path for room in (HEATMAPS, GALLERY) for path in _files(store / room)
                              if path not in already]  # fmt: skip
    with ExitStack() as stack:
        claims = {folder: _claims(stack, folder, now) for folder in unneeded}
        busy = {folder for folder, claimed in claims.items() if claimed is None}
        lines = []
        for what, paths in doomed.items():
            going = [path for path in paths if path.parent not in busy]
            size = _bytes(going)
            lines += [f"{what}: {len(going)} files, {_size(size)}"] if going else []
            for path in going if not dry_run else []:
                _unlink(path)
        for folder, claimed in claims.items() if not dry_run else ():
            for claim in claimed or ():
                claim.remove()
            with suppress(OSError):  # somebody begins to compute there
                folder.rmdir()
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


def _parts(store: Path) -> list[Path]:
    """Return the folders of chunks."""
    return sorted((store / CELLS).glob("*/*.parts"))


def _cells(store: Path) -> Iterator[tuple[str, list[Path]]]:
    """Yield each cell's digest with its finished file, or its chunks."""
    for folder in sorted((store / CELLS).glob("*")):
        finished = {name: [path] for name, path in sealed_in(folder)}
        parts = {entry.stem: [path for _, path in sealed_in(entry)] for entry in sorted(folder.glob("*.parts"))}
        yield from sorted(({name: paths for name, paths in parts.items() if paths} | finished).items())


def _in_progress(files: list[Path]) -> bool:
    return files[0].parent.suffix == ".parts"


def _check(path: Path, room: str) -> None:
    """Raise Damaged for a file that is not as it was written, or not where it belongs."""
    match = SEALED.fullmatch(path.name)
    if match is None or match["suffix"] != SUFFIXES.get(room):
        raise Damaged("it is not a file of this store")
    name, folder = match["name"], path.parent.name
    if room == CELLS and not folder.endswith(".parts"):
        check_place(label_of(path), name, None)
        if folder != name[:2]:
            raise Damaged("it is in another cell's folder")
        return
    if not is_chunk_name(name):
        raise Damaged("its name is no chunk's")
    check_place(_label(path, room), folder.removesuffix(".parts"), int(name))


def _label(path: Path, room: str) -> dict[str, Any]:
    """Return what a file says of itself. Raises Damaged."""
    if room == CELLS:
        return label_of(path)
    return (draw_label if room == DRAWS else heatmap_label)(read_sealed(path))


def _temporary(path: Path) -> bool:
    return path.name.startswith(".")


def _now(store: Path) -> float:
    """Return the time by the disk's own clock."""
    probe = store / f".now.{os.getpid()}"
    try:
        probe.touch()
        return probe.stat().st_mtime
    except OSError as error:
        raise cannot_write(probe, error) from error
    finally:
        with suppress(OSError):
            probe.unlink()


def _is_over(path: Path, now: float) -> bool:
    """Whether a file has not been touched for an hour."""
    with suppress(FileNotFoundError):
        return now - path.lstat().st_mtime > HOUR
    return False


def _left(path: Path) -> bool:
    """Whether nobody is writing a temporary file."""
    try:
        return path.is_symlink() or not path.is_file() or abandoned(path)
    except OSError:
        return False


def _notes(store: Path, now: float) -> Iterator[Path]:
    """Yield the files of sweeps whose process is gone."""
    for folder in sorted((store / SWEEPS).glob("*")):
        files = list(_files(folder))
        if all(_is_over(path, now) for path in files):
            with suppress(RapbenchError), ExitStack() as stack:
                if _claims(stack, folder, now) is not None:
                    yield from files


def _claims(stack: ExitStack, folder: Path, now: float) -> list[Claim] | None:
    """Claim what is in a folder until the stack closes; None where a process has some of it."""
    claims = []
    for path in sorted(folder.glob("*.lock")):
        claim = Claim.of(path)
        # Where the disk has no locks, an hour must have passed.
        if claim is None or (claim.handle is None and not _is_over(path, now)):
            return None
        claims.append(stack.enter_context(claim))
    return claims


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        if path.is_dir():  # none of a store's, and perhaps somebody's
            return
        raise RapbenchError(f"cannot remove {path}: {error.strerror}") from error


def _stale(path: Path, is_stale: Callable[..., bool | None]) -> bool | None:
    """Whether a file is of other code or packages than are here; None where that cannot be told."""
    try:
        key = key_in(path)
        codes = [(tuple(code["roots"]), str(code["sha256"])) for code in key["code"].values()]
        versions = tuple(sorted(key["versions"].items()))
    except FileNotFoundError:
        return path.is_symlink()  # to nowhere, or gone by now
    except RapbenchError:
        return None  # it cannot be read now, which says nothing of it
    except OSError as error:
        return None if error.errno in (*NOT_THE_FILES, errno.EACCES, errno.EPERM) else True
    except (Damaged, KeyError, TypeError, ValueError, AttributeError, pa.ArrowException):
        return True  # no version would use it
    states = [is_stale(*code, versions) for code in codes]
    return True if True in states or not states else None if None in states else False


def key_in(path: Path) -> dict[str, Any]:
    """Return the key that a file of the store says it is of, without reading all of it."""
    if path.suffix not in (".parquet", ".safetensors"):
        return _key(read_sealed(path))
    with open_regular(path) as file:  # a pipe would be waited for
        if path.suffix == ".parquet":
            label = (pq.read_schema(file).metadata or {})[LABEL]
        else:
            size = int.from_bytes(file.read(8), "little")
            label = json.loads(file.read(min(size, MOST)))["__metadata__"][METADATA]
    return _key(label)


def _key(text: str | bytes) -> dict[str, Any]:
    key: dict[str, Any] = json.loads(text)["key"]
    return key


def _bytes(paths: Iterable[Path]) -> int:
    size = 0
    for path in paths:
        with suppress(FileNotFoundError):
            size += path.lstat().st_size
    return size


def _size(size: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
