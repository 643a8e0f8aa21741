"""Images inside a tar archive, read in place: nothing is unpacked, and a member's name is only a key."""

import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rapbench.data._dataset import UNLABELLED, Dataset, Sample
from rapbench.data._folder import SUFFIXES, is_image
from rapbench.errors import RapbenchError

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


@dataclass(frozen=True)
class TarDataset(Dataset):
    """Members of the archive `root`. members: an image's first byte in the archive, and its size."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def read(self, file: str) -> bytes:
        """Return a member's bytes; OSError when it is not there. The archive is opened anew: processes share none."""
        if file not in self.members:
            raise FileNotFoundError(f"{self.root} has no member {file}")
        start, size = self.members[file]
        with self.root.open("rb") as archive:
            archive.seek(start)
            data = archive.read(size)
        if len(data) < size:
            raise OSError(f"{self.root} ends within {file}")
        return data


def open_tar(path: Path) -> TarDataset:
    """Return an archive's images, unlabelled. Raises RapbenchError for one that is compressed, damaged or has none."""
    try:
        members = _index(path)
    except (tarfile.TarError, OSError) as error:
        raise RapbenchError(f"{path} cannot be read as a tar archive ({error}); download it again") from error
    if not members:
        raise RapbenchError(f"{path} holds no images ({', '.join(SUFFIXES)})")
    return TarDataset("tar", path, [Sample(name, UNLABELLED) for name in sorted(members)], "", members=members)


def _index(path: Path) -> dict[str, tuple[int, int]]:
    with path.open("rb") as file:
        if file.read(8).startswith(COMPRESSED):
            raise RapbenchError(f"{path} is compressed, so no image can be read in place; decompress it first")
    found = {}
    bar = tqdm(total=path.stat().st_size, desc=f"index of {path.name}", unit="B", unit_scale=True, delay=2, leave=False)
    with tarfile.open(path, "r:") as archive, bar:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isreg() and not member.issparse() and is_image(name):
                found[name] = (member.offset_data, member.size)
            bar.update(archive.offset - bar.n)
        with path.open("rb") as file:  # a header that is no header ends the archive, too
            file.seek(archive.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it has no end")
    return found
