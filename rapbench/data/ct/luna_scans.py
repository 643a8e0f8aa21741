"""LUNA16's scans: where they are, in folders or in archives, and how one is read. SimpleITK reads the voxels."""

import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from rapbench.core.errors import RapbenchError
from rapbench.core.extras import needed
from rapbench.core.files import open_regular
from rapbench.data.labelled.dataset import is_inside

if TYPE_CHECKING:
    import SimpleITK

SUBSET = re.compile(r"subset(\d)")
LUNGS = "seg-lungs"  # LUNA16's segmentations of the lungs have the scans' names
MOST_HEADER, MOST_VOXELS = 1 << 16, 4 << 30  # bytes
BYTES = {
    "MET_CHAR": 1,
    "MET_UCHAR": 1,
    "MET_SHORT": 2,
    "MET_USHORT": 2,
    "MET_INT": 4,
    "MET_UINT": 4,
    "MET_LONG": 4,
    "MET_ULONG": 4,
    "MET_FLOAT": 4,
    "MET_DOUBLE": 8,
}  # fmt: skip  by element type, of one voxel


@dataclass(frozen=True)
class Scan:
    """A scan's files. uid: the series UID. header: the .mhd, in the archive where there is one. subset: LUNA16's."""

    uid: str
    header: str
    archive: Path | None
    subset: int | None

    @property
    def where(self) -> str:
        """The header's place, for messages."""
        return f"{self.archive}: {self.header}" if self.archive else self.header


def find_scans(root: Path, wanted: set[str]) -> dict[str, Scan]:
    """Return by series UID those of the wanted scans that are below a folder.

    Raises RapbenchError for a scan that is there twice, or an archive that cannot be read.
    """
    loose: dict[str, Scan] = {}
    archived: dict[str, Scan] = {}
    for folder, folders, files in os.walk(root, onerror=_refuse):
        folders[:] = sorted(name for name in folders if not name.startswith((".", LUNGS)))
        for name in sorted(files):
            path = Path(folder, name)
            if name.endswith(".mhd") and name[:-4] in wanted:
                _enter(loose, Scan(name[:-4], str(path), None, _subset(path.relative_to(root).parent, root)))
            elif re.fullmatch(r"subset\d\.zip", name):
                for scan in _members(path, wanted):
                    _enter(archived, scan)
    return archived | loose  # an archive that lies beside what was unpacked of it is not needed


def identity(scan: Scan) -> str:
    """Return a hash that changes with a scan's files: of the header, and of the voxels' checksum, or size and time.

    Raises RapbenchError for a header that cannot be understood, and for voxels that are missing or cut short.
    """
    if scan.archive is None:
        header = Path(scan.header)
        data = _bytes(header)
        voxels = os.stat(_voxels(header, data, scan.where))
        text = f"{data!r} {voxels.st_size} {voxels.st_mtime_ns}"
    else:
        with _opened(scan.archive) as archive:
            text = " ".join(f"{it.file_size} {it.CRC}" for it in _pair(archive, scan))
    return hashlib.sha256(text.encode()).hexdigest()


def read(scan: Scan) -> "SimpleITK.Image":
    """Return a scan with its geometry. Raises RapbenchError for files that are broken, missing or cut short."""
    if scan.archive is None:
        header = Path(scan.header)
        _voxels(header, _bytes(header), scan.where)
        return _image(header, scan)
    with tempfile.TemporaryDirectory(prefix="rapbench-") as folder, _opened(scan.archive) as archive:
        for member in _pair(archive, scan):  # their names were checked; SimpleITK reads nothing but files
            try:
                with (
                    archive.open(member) as source,
                    open(Path(folder, PurePosixPath(member.filename).name), "wb") as to,
                ):
                    shutil.copyfileobj(source, to, 1 << 20)
            except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
                raise RapbenchError(f"{scan.archive}: {member.filename} cannot be unpacked ({error}); unpack the "
                                    "archive yourself, or download it again") from error  # fmt: skip
        header = Path(folder, PurePosixPath(scan.header).name)
        _voxels(header, _bytes(header), scan.where)
        return _image(header, scan)


def _image(header: Path, scan: Scan) -> "SimpleITK.Image":
    with needed("luna16", "data=luna16"):
        import SimpleITK
    try:
        return SimpleITK.ReadImage(str(header), imageIO="MetaImageIO")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise RapbenchError(f"{scan.where} cannot be read ({reason})") from error


def _voxels(header: Path, data: bytes, where: str) -> Path:
    """Return the file of voxels beside a header, which is whole where the header tells its size."""
    name, size = _stated(data, where)
    path = header.parent / name
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise RapbenchError(f"{where}: its voxels, {name}, cannot be read ({error.strerror or error})") from error
    if size is not None and found != size:
        what = "is cut short" if found < size else "is too long"
        raise RapbenchError(f"{where}: its voxels, {name}, have {found:,} bytes, {size:,} expected; the file {what}, "
                            "download it again")  # fmt: skip
    return path


def _stated(data: bytes, where: str) -> tuple[str, int | None]:
    """Return what a header states: the name of the file of voxels, and its size, None where it is compressed."""
    if len(data) > MOST_HEADER:
        raise RapbenchError(f"{where} is larger than {MOST_HEADER >> 10} KiB, which no header is")
    lines = (line.partition("=") for line in data.decode(errors="replace").splitlines())
    stated = {key.strip(): value.strip() for key, equals, value in lines if equals}
    name, kind = stated.get("ElementDataFile", ""), stated.get("ElementType", "")
    if not is_inside(name) or PurePosixPath(name).name != name or "\\" in name:
        raise RapbenchError(f"{where}: ElementDataFile {name!r:.80} is not the name of a file beside it")
    if kind not in BYTES:
        raise RapbenchError(f"{where}: ElementType {kind!r:.40} is unknown; LUNA16's scans have MET_SHORT")
    try:
        sides = [int(side) for side in stated.get("DimSize", "").split()]
    except ValueError:
        sides = []
    if len(sides) != 3 or stated.get("NDims") != "3" or min(sides) < 1:
        raise RapbenchError(f"{where}: DimSize {stated.get('DimSize', '')!r:.40} is not that of a volume: three sides")
    size = sides[0] * sides[1] * sides[2] * BYTES[kind]
    if size > MOST_VOXELS:
        raise RapbenchError(f"{where}: {size:,} bytes of voxels, more than any scan has")
    return name, None if stated.get("CompressedData", "False").lower() == "true" else size


def _bytes(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read(MOST_HEADER + 1)
    except OSError as error:
        raise RapbenchError(f"{path} cannot be read ({error.strerror or error})") from error


def _enter(found: dict[str, Scan], scan: Scan) -> None:
    if (other := found.get(scan.uid)) is not None:
        raise RapbenchError(f"LUNA16: the scan {scan.uid} is there twice, {other.where} and {scan.where}; remove one")
    found[scan.uid] = scan


def _subset(folder: Path, root: Path) -> int | None:
    """Return the subset that a folder below the root is of, or the root itself."""
    named = [SUBSET.fullmatch(part) for part in (*folder.parts[::-1], root.name)]
    return next((int(match[1]) for match in named if match), None)


def _refuse(error: OSError) -> None:
    raise RapbenchError(f"LUNA16: {error.filename} cannot be read ({error.strerror or error})")


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise RapbenchError(f"{path} cannot be read as a zip archive ({error}); download it again") from error
    with archive:
        yield archive


def _members(path: Path, wanted: set[str]) -> Iterator[Scan]:
    """Yield the scans in an archive."""
    with _opened(path) as archive:
        names = archive.namelist()
    match = SUBSET.match(path.name)
    for name in names:
        stem = PurePosixPath(name).name
        if stem.endswith(".mhd") and stem[:-4] in wanted:
            if not is_inside(name):
                raise RapbenchError(f"{path}: member {name!r:.80} has a name that leads out of the archive")
            yield Scan(stem[:-4], name, path, int(match[1]) if match else None)


def _pair(archive: zipfile.ZipFile, scan: Scan) -> tuple[zipfile.ZipInfo, zipfile.ZipInfo]:
    """Return the members of a scan in an archive: the header, and the voxels."""
    try:
        header = archive.getinfo(scan.header)
        data = archive.read(header) if header.file_size <= MOST_HEADER else bytes(MOST_HEADER + 1)
        name, size = _stated(data, scan.where)
        voxels = archive.getinfo(str(PurePosixPath(scan.header).parent / name))
    except KeyError as error:
        raise RapbenchError(f"{scan.where}: its archive lacks {error.args[0]!s:.160}") from error
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError) as error:
        raise RapbenchError(f"{scan.where} cannot be unpacked ({error}); unpack the archive yourself, or download it "
                            "again") from error  # fmt: skip
    if voxels.file_size > (MOST_VOXELS if size is None else size):
        raise RapbenchError(f"{scan.where}: its voxels, {name}, have {voxels.file_size:,} bytes, too many")
    return header, voxels
