"""What torch.load takes on trust even where it executes nothing: that a checkpoint is as large as its file."""

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from rapbench.core.errors import RapbenchError

# Called by a pickle, they reserve as many bytes as it says; no file of tensors needs them.
RESERVING = re.compile(r"(builtins|__builtin__) bytearray|torch(\.\w+)* \w*Tensor")
MOST_REPEATED = 1 << 30  # bytes of one tensor; no architecture's is as large
PICKLES = 5  # at the beginning of a file that is no zip archive


def refuse_unpacking(file: Path) -> None:
    """Raise RapbenchError for a checkpoint that would unpack to more than is in it.

    Whatever else is wrong with it, torch.load tells.
    """
    try:
        with file.open("rb") as opened:
            if not zipfile.is_zipfile(opened):
                opened.seek(0)
                return _refuse_reserving(opened, file, PICKLES)
            with zipfile.ZipFile(opened) as archive:
                if sum(part.file_size for part in archive.infolist()) > file.stat().st_size:
                    raise RapbenchError(f"{file} unpacks to more than its size, and torch.save compresses nothing; "
                                        "save model.state_dict() again")  # fmt: skip
                for name in archive.namelist():
                    if name.endswith("data.pkl"):
                        with archive.open(name) as part:
                            _refuse_reserving(part, file, 1)
    except RapbenchError:
        raise
    except Exception:  # a damaged file raises whatever its bytes lead to
        return None


def refuse_repeated(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Raise RapbenchError for a large tensor of fewer numbers than it has elements, repeated by its strides."""
    for name, tensor in tensors.items():
        if tensor.layout != torch.strided:
            raise RapbenchError(f"{file}: {name} is no dense tensor; save it as one")
        size = tensor.numel() * tensor.element_size()
        if tensor.device.type == "meta" or (size > MOST_REPEATED and size > tensor.untyped_storage().nbytes()):
            raise RapbenchError(f"{file}: {name} has shape {tuple(tensor.shape)}, and not as many numbers; save "
                                "model.state_dict() again")  # fmt: skip


def _refuse_reserving(pickles: IO[bytes], file: Path, count: int) -> None:
    for _ in range(count):
        for operation, argument, _ in pickletools.genops(pickles):
            if operation.name == "GLOBAL" and RESERVING.fullmatch(str(argument)):
                raise RapbenchError(f"{file} holds more than tensors ({str(argument).replace(' ', '.')}); save "
                                    "model.state_dict() alone")  # fmt: skip
