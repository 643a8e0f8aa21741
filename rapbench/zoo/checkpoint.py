"""A user's own weights, .pth or .safetensors, in any architecture of the zoo and for any number of classes."""

import re
import warnings
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from rapbench.errors import RapbenchError
from rapbench.files import file_hash
from rapbench.zoo import models
from rapbench.zoo._match import refuse_mismatch
from rapbench.zoo._model import Facts, Preprocess, Transform, ZooModel
from rapbench.zoo._pth import refuse_repeated, refuse_unpacking

# Where training scripts put the weights inside what they save.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "state_dict_ema")


@models.register("checkpoint")
def checkpoint(
    *,
    architecture: str | None = None,
    path: str | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None,
) -> ZooModel:
    """Load weights into an architecture. Preprocessing is the architecture's own, unless one of its options is given.

    architecture: a model of the zoo, such as resnet50 or timm/resnet18. path: the file. mean, std: of each channel, on
    0..1, red first. resize: of the short side; crop: of the centre, both in pixels. interpolation: bilinear, bicubic.
    Raises RapbenchError for a file that does not fit, naming what is missing, too much, or of another shape.
    """
    if not architecture or not path:
        raise RapbenchError(
            "the checkpoint model needs model.architecture=NAME and model.path=FILE (.pth, .safetensors)"
        )
    entry = models[architecture]
    if "build" not in entry.facts:
        raise RapbenchError(f"model.architecture={architecture} is not an architecture of the zoo, such as resnet50")
    file = Path(path).expanduser()
    build, unused = entry.facts["build"], entry.facts.get("unused", ())
    tensors = {name: tensor for name, tensor in read_tensors(file).items() if not name.startswith(unused)}
    with torch.device("meta"):
        shapes = build(1000).state_dict()
        classifier = [name for name, tensor in build(7).state_dict().items() if tensor.shape != shapes[name].shape]
    tensors = without_prefix(tensors, shapes)
    sizes = {tensors[name].shape[0] for name in classifier if name in tensors and tensors[name].ndim}
    classes = sizes.pop() if len(sizes) == 1 else 1000
    network = build(classes)
    fill(network, tensors, f"{file}, as {architecture}")
    facts = Facts(
        name=file.stem,
        architecture=entry.facts["facts"].architecture,
        source=f"{file.name} (SHA-256 {file_hash(file)})",
        licence="the user's own",
        asked=f"checkpoint --option architecture={architecture} --option path={file}",
        classes=classes,
    )
    given = {"mean": mean, "std": std, "resize": resize, "crop": crop, "interpolation": interpolation}
    return ZooModel(network, preprocessing(entry.facts["transform"], given), facts)


def read_tensors(file: Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, out of what a training script wrapped them in; nothing in it is executed.

    Raises RapbenchError when the file is missing, broken, or holds more than tensors.
    """
    if not file.is_file():
        raise RapbenchError(f"model.path: {file} is not a file")
    if file.suffix != ".safetensors":
        refuse_unpacking(file)
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it then refuses
            found = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise RapbenchError(f"{file} is not a safetensors file, or is cut short ({error})") from error
    except Exception as error:  # a damaged file raises whatever its bytes lead to
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise RapbenchError(f"{file} holds more than tensors ({foreign[1]}), which is not loaded as it could run "
                                "code; save model.state_dict() alone") from error  # fmt: skip
        hint = "; for Keras' files there are models such as vgg16_keras" if file.suffix in (".h5", ".hdf5") else ""
        raise RapbenchError(f"{file} is not a PyTorch checkpoint, or is cut short{hint}") from error
    for key in WRAPPINGS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    tensors = {str(name): value for name, value in found.items()} if isinstance(found, Mapping) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        wrapped = f" (nor one below {', '.join(WRAPPINGS)})"
        raise RapbenchError(f"{file} holds no mapping of names to tensors{wrapped}; save model.state_dict()")
    refuse_repeated(tensors, file)
    return tensors


def without_prefix(tensors: dict[str, Tensor], shapes: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without what wrappers put before every name: `module.`, `model.`, `_orig_mod.`."""
    while not tensors.keys() & shapes.keys():
        heads = {name.partition(".")[0] for name in tensors if "." in name}
        if len(heads) != 1 or not all("." in name for name in tensors):
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def fill(network: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Copy tensors into a network; RapbenchError names what is missing, too much, of another shape, or not finite."""
    wanted = network.state_dict()
    needed = [name for name in wanted if name in tensors or not name.endswith("num_batches_tracked")]
    refuse_mismatch(needed, tensors, f"{where}: the checkpoint", "is the architecture right?")
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise RapbenchError(f"{where}: {name} has shape {tuple(tensor.shape)}, the architecture's is "
                                f"{tuple(wanted[name].shape)}")  # fmt: skip
        if not tensor.isfinite().all():
            raise RapbenchError(f"{where}: {name} holds NaN or infinite values")
    network.load_state_dict(dict(tensors), strict=False)


def preprocessing(own: Transform, given: dict[str, Any]) -> Transform:
    """Return an architecture's transform, or one with the given parts in place of its own."""
    changed = {key: value for key, value in given.items() if value is not None}
    if not changed:
        return own
    bgr = isinstance(own, Preprocess) and own.bgr
    for key in changed.keys() & {"mean", "std"}:
        if len(changed[key]) != 3 or not all(0 <= value <= 1 for value in changed[key]):
            raise RapbenchError(f"model.{key}={changed[key]}: give three values on 0..1, red first")
        changed[key] = tuple(255 * value for value in (changed[key][::-1] if bgr else changed[key]))
    if min(changed.get("std", (1,))) == 0 or min(changed.get("resize", 1), changed.get("crop", 1)) < 1:
        raise RapbenchError("model.std, model.resize and model.crop must be positive")
    kept = {field.name: getattr(own, field.name) for field in fields(Preprocess) if hasattr(own, field.name)}
    return Preprocess(**kept | changed)
