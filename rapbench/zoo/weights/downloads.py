"""Downloads: whether a hub answers, and weights from torch.hub's addresses, checked by the hash in their names."""

import re
import socket
import threading
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

import torch

from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.core.paths import torch_cache

ANSWER = 3.0  # seconds within which a server answers, its name's look-up included
STALL = 30.0  # seconds without a byte after which a download has failed


def unreachable(url: str) -> str:
    """Return why no server answers at an address; empty when one does, whatever it says.

    Proxies count as urllib knows them. Asked in a thread, as nothing bounds the time that a name's look-up takes.
    """
    found: list[str] = []

    def ask() -> None:
        try:
            with urlopen(Request(url, method="HEAD", headers={"User-Agent": "rapbench"}), timeout=ANSWER):
                found.append("")
        except HTTPError:
            found.append("")
        except Exception as error:  # whatever a proxy or a broken server leads to
            found.append(str(getattr(error, "reason", error)) or type(error).__name__)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(ANSWER + 0.5)
    return found[0] if found else f"no answer within {ANSWER:.0f} seconds"


def fetch(url: str, file: Path, sha256_prefix: str | None = None) -> None:
    """Download a file, with a progress bar. Raises OSError or RuntimeError, soon when the server cannot be reached."""
    if reason := unreachable(url):
        raise OSError(f"{urlparse(url).hostname} cannot be reached: {reason}")
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL)  # torch.hub names none
    try:
        torch.hub.download_url_to_file(url, str(file), hash_prefix=sha256_prefix)
    finally:
        socket.setdefaulttimeout(before)


def hub_file(url: str, model: str) -> Path:
    """Return the file behind `url` in torch.hub's folder, downloaded unless it is there, and checked either way.

    Raises RapbenchError when it cannot be downloaded, is not the file it should be, or has no hash in its name.
    """
    file = torch_cache() / "checkpoints" / Path(urlparse(url).path).name
    digits = re.search(r"-([0-9a-f]{8,64})\.", file.name)
    by_hand = "or use a model whose weights come from a package registry: resnet50_keras"
    if digits is None:
        raise RapbenchError(f"{file.name}, the weights of {model!r}, has no hash to check it by; get the file yourself "
                            f"and use it with model=checkpoint, {by_hand}")  # fmt: skip
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            fetch(url, file, digits[1])
    except (OSError, RuntimeError) as error:
        raise RapbenchError(
            f"cannot download the weights of {model!r} ({error}); get {file.name} elsewhere and put it at {file}, "
            + by_hand
        ) from error
    if not file_hash(file).startswith(digits[1]):
        raise RapbenchError(f"{file} does not match the hash in its name; delete it and run again")
    return file
