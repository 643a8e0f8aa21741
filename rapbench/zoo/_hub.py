"""Weights from torch.hub's addresses, whose file names end in the first digits of their SHA-256."""

import re
from pathlib import Path
from urllib.parse import urlparse

import torch

from rapbench.errors import RapbenchError
from rapbench.files import file_hash


def hub_file(url: str, model: str) -> Path:
    """Return the file behind `url` in torch.hub's folder, downloaded unless it is there, and checked either way.

    Raises RapbenchError when it cannot be downloaded, is not the file it should be, or has no hash in its name.
    """
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(url).path).name
    digits = re.search(r"-([0-9a-f]{8,64})\.", file.name)
    by_hand = "or use a model whose weights come from a package registry: resnet50_keras"
    if digits is None:
        raise RapbenchError(f"{file.name}, the weights of {model!r}, has no hash to check it by; get the file yourself "
                            f"and use it with model=checkpoint, {by_hand}")  # fmt: skip
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(url, str(file), hash_prefix=digits[1])
    except (OSError, RuntimeError) as error:
        raise RapbenchError(
            f"cannot download the weights of {model!r} ({error}); get {file.name} elsewhere and put it at {file}, "
            + by_hand
        ) from error
    if not file_hash(file).startswith(digits[1]):
        raise RapbenchError(f"{file} does not match the hash in its name; delete it and run again")
    return file
