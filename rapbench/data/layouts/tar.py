"""Images inside a tar archive, read in place: nothing is unpacked, and a member's name is only a key."""

import tarfile
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from rapbench.core.errors import RapbenchError
from rapbench.data.labelled.dataset import MOST_IMAGES, UNLABELLED, Dataset, Sample, is_inside, refuse_large
from rapbench.data.layouts.bounded import Bounded, tar_members
from rapbench.data.layouts.image_files import SUFFIXES, is_image

COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd
HEADER = 1 << 20  # bytes of one member's header, its name and attributes


@dataclass(frozen=True)
class TarDataset(Dataset):
    """Members of the archive `root`. members: an image's first byte in the archive, and its size."""

    members: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)

    def read(self, file: str) -> bytes:
        """Return a member's bytes; OSError when it is not there. The archive is opened anew: processes share none."""
        if file not in self.members:
            raise FileNotFoundError(f"{self.root} has no member {file}")
        start, size = self.members[file]
        refuse_large(size)
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
    except RapbenchError:
        raise
    except Exception as error:  # a damaged header raises whatever its bytes lead to
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
    with path.open("rb") as file, tarfile.open(fileobj=Bounded(file, HEADER), mode="r:") as archive, bar:
        for member in tar_members(archive):
            name = member.name.removeprefix("./")
            if not is_inside(name) and name.lower().endswith(SUFFIXES):
                raise RapbenchError(f"{path}: member {member.name!r} has a name that leads out of the archive; pack "
                                    "images under relative names")  # fmt: skip
            if member.isreg() and not member.issparse() and is_image(name):
                found[name] = (member.offset_data, member.size)
                if len(found) > MOST_IMAGES:
                    raise RapbenchError(f"{path} holds more than {MOST_IMAGES:,} images, too many for one archive")
            bar.update(archive.offset - bar.n)
        file.seek(archive.offset)  # a header that is no header ends the archive, too
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it has no end")
    return found
