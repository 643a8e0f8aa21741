"""Which kind of file something is that was given as weights, by its first bytes, and what to do with it."""

import re
import zipfile
from pathlib import Path

STATE = "torch.save(model.state_dict(), 'NAME.pth')"
HDF5 = b"\x89HDF\r\n\x1a\n"
# Kinds by their first bytes.
MAGIC = {
    HDF5: "is an HDF5 file; for Keras' weights there are models such as vgg16_keras, with model.path=FILE",
    b"\x1f\x8b": "is compressed with gzip; decompress it first",
    b"BZh": "is compressed with bzip2; decompress it first",
    b"\xfd7zXZ": "is compressed with xz; decompress it first",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd; decompress it first",
    b"\x93NUMPY": f"is a NumPy array; put the weights into the network and save {STATE}",
    b"GGUF": f"is a GGUF file of a language model; give a network's {STATE}",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself; fetch it with git lfs pull",
    b"<!DOCTYPE": "is a web page, not the file behind it; download it again",
    b"<html": "is a web page, not the file behind it; download it again",
    b"%PDF": "is a PDF",
    b"PAR1": "is a parquet file",
}
# Kinds by what a zip archive holds.
MEMBERS = (
    (r"(^|/)(code/|constants\.pkl$)", "is a TorchScript archive, which is a program and not weights; load it with "
     f"torch.jit.load('FILE') and save {STATE}"),
    (r"^model\.weights\.h5$", "is in the format of Keras 3 (.keras), which no model here reads; save it with "
     "model.save('NAME.h5') for a model such as vgg16_keras"),
    (r"(^|/)(models/.*\.json|serialized_exported_program\.json|archive_format)$", "is an exported program (.pt2) and "
     f"not weights; load it with torch.export.load('FILE') and save {STATE}"),
    (r"\.npy$", f"is a NumPy archive (.npz); put the weights into the network and save {STATE}"),
)  # fmt: skip
# Kinds by a file's name, for what has no certain first bytes.
NAMES = (
    (r"\.onnx$", f"is an ONNX graph, which is a program and not weights; save {STATE} where it was exported from"),
    (r"\.index\.json$", "is the index of a checkpoint in several files; load them into the network and save "
     f"one: {STATE}"),
    (r"\.pb$", f"is TensorFlow's graph; put the weights into the network and save {STATE}"),
    (r"\.(index|meta|data-\d+-of-\d+)$", f"is TensorFlow's checkpoint; put the weights into the network and save "
     f"{STATE}"),
    (r"\.(tflite|mlmodel|engine|plan|msgpack|params|pdparams|caffemodel|prototxt)$", "is another framework's file; put "
     f"the weights into the network and save {STATE}"),
)  # fmt: skip


def is_safetensors(file: Path) -> bool:
    """Whether a file is called so, or begins as safetensors do: the header's length, in eight bytes, and a brace."""
    with file.open("rb") as opened:
        head = opened.read(9)
    return file.suffix.lower() == ".safetensors" or (head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27)


def foreign(file: Path) -> str:
    """Return what a file is that is no checkpoint, and what to do; empty for what may be one, or is not known."""
    with file.open("rb") as opened:
        head = opened.read(64)
    if not head:
        return "is empty"
    for magic, says in MAGIC.items():
        if head.lstrip().startswith(magic):
            return says
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(file) as archive:
                members = archive.namelist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
            return ""
        for pattern, says in MEMBERS:
            if any(re.search(pattern, member) for member in members):
                return says
        return "" if any(member.endswith("data.pkl") for member in members) else "is a zip archive; unpack it first"
    if head[:1] != b"\x80" and not is_safetensors(file):  # neither a pickle
        return next((says for pattern, says in NAMES if re.search(pattern, file.name.lower())), "")
    return ""
