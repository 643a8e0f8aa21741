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

from rapbench.core.console import say
from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.core.names import class_names_of
from rapbench.core.paths import user_path
from rapbench.model import OWN, Facts, Model
from rapbench.model.preprocessing import Preprocess, Stated, Transform, stated
from rapbench.zoo import models
from rapbench.zoo.weights.formats import STATE, foreign, is_safetensors
from rapbench.zoo.weights.match import refuse_mismatch
from rapbench.zoo.weights.pth import refuse_repeated, refuse_unpacking

# Where training scripts put the weights inside what they save.
WRAPPINGS = ("state_dict", "model_state_dict", "model", "net", "network", "state_dict_ema", "model_ema")
FEW_CLASSES = 10_000
MOST_PIXELS = 8192
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.uint8)


@models.register("checkpoint")
def checkpoint(
    *,
    architecture: str | None = None,
    path: str | None = None,
    part: str | None = None,
    mean: list[float] | None = None,
    std: list[float] | None = None,
    resize: int | None = None,
    crop: int | None = None,
    interpolation: Literal["bilinear", "bicubic", "nearest"] | None = None,
    size: int | list[int] | None = None,
    class_names: list[str] | str | None = None,
) -> Model:
    """Load weights into an architecture. Preprocessing is the architecture's own, unless one of its options is given.

    architecture: a model of the zoo, such as resnet50 or timm/resnet18, or my_module:Net, a function or class of a
    user's own. path: the file. part: which of the weights in it, such as model_ema; None: the usual one. mean, std: of
    each channel, on 0..1, red first. resize: of the short side; crop: of the centre, both in pixels. interpolation:
    bilinear, bicubic. size: of the inputs of an own architecture, in the place of resize and crop. class_names: a list,
    or a text file with one a line.
    Raises RapbenchError for a file that does not fit, naming what is missing, too much, or of another shape.
    """
    if not architecture or not path:
        raise RapbenchError(
            "the checkpoint model needs model.architecture=NAME and model.path=FILE (.pth, .safetensors)"
        )
    entry = models[architecture]
    given = {"mean": mean, "std": std, "resize": resize, "crop": crop, "interpolation": interpolation, "size": size}
    own = ":" in architecture and "build" not in entry.facts
    if not own and "build" not in entry.facts:
        raise RapbenchError(f"model.architecture={architecture} is not an architecture of the zoo, such as resnet50")
    if own:
        refuse_settings(given, ("resize", "crop", "interpolation"), f"{architecture} has model.size")
    else:
        refuse_settings(given, ("size",), f"{architecture} has model.resize and model.crop")
    file = user_path(path, "model.path")
    found, taken = read_tensors(file, part)
    where = f"{file}, as {architecture}"
    names = class_names_of(class_names or ())
    if own:
        made: Model = entry.function()
        transform: Transform = own_preprocessing(made, given)
        name, network, names = made.facts.architecture, made.network, names or made.class_names
        tensors = without_prefix(found, network.state_dict(), where)
        check(network.state_dict(), tensors, where)
        network.load_state_dict(tensors, strict=False)
        classes = len(names) or None
    else:
        transform = preprocessing(entry.facts["transform"], given)
        name = entry.facts["facts"].architecture
        network, classes = filled(entry.facts, found, file, where)
    facts = Facts(
        name=file.stem,
        architecture=name,
        source=f"{file.name}{f', its {taken}' if taken else ''} (SHA-256 {file_hash(file)})",
        licence=OWN,
        asked=f"checkpoint --option architecture={architecture} --option path={file}"
        + (f" --option part={part}" if part else ""),
        classes=classes,
    )
    return Model(network, transform=transform, facts=facts, class_names=names)


def refuse_settings(given: dict[str, Any], names: tuple[str, ...], instead: str) -> None:
    """Raise RapbenchError for a setting that an architecture does not have."""
    for name in names:
        if given[name] is not None:
            raise RapbenchError(f"model.{name} has no meaning here: {instead}")


def filled(facts: Mapping[str, Any], found: dict[str, Tensor], file: Path, where: str) -> tuple[nn.Module, int]:
    """Return an architecture of the zoo with the tensors of a file in it, and for how many classes they are."""
    build, unused = facts["build"], facts.get("unused", ())
    with torch.device("meta"):
        shapes = build(1000).state_dict()
        classifier = [name for name, tensor in build(7).state_dict().items() if tensor.shape != shapes[name].shape]
    tensors = without_prefix(found, shapes, where)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(unused)}
    sizes = {tensors[name].shape[0] for name in classifier if name in tensors and tensors[name].ndim}
    classes = sizes.pop() if len(sizes) == 1 else 1000
    if not 1 <= classes <= max(FEW_CLASSES, file.stat().st_size // 64):  # of which each takes 16 numbers or more
        raise RapbenchError(f"{where}: the last layer has {classes:,} classes; is that right?")
    with torch.device("meta"):
        check(build(classes).state_dict(), tensors, where)
    network = build(classes)
    network.load_state_dict(tensors, strict=False)
    return network, classes


def read_tensors(file: Path, part: str | None = None) -> tuple[dict[str, Tensor], str]:
    """Return a checkpoint's tensors by name, out of what a training script wrapped them in, and which part they are.

    part: the key to take, None for the usual ones; the part is said where there are others, and empty for a bare file.
    Nothing in the file is executed. Raises RapbenchError when it is missing, broken, of another kind, or holds more.
    """
    if not file.is_file():
        raise RapbenchError(f"model.path: {file} is not a file")
    try:
        if is_safetensors(file):
            return load_file(file), ""
        if says := foreign(file):
            raise RapbenchError(f"{file} {says}")
        refuse_unpacking(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old and odd formats: what comes of them is checked
            found = torch.load(file, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise RapbenchError(f"{file} is not a safetensors file, or is cut short ({error})") from error
    except RapbenchError:
        raise
    except Exception as error:  # whatever the bytes lead torch's readers to
        if class_name := re.search(r"GLOBAL (\S+)", str(error)):
            raise RapbenchError(f"{file} holds more than tensors ({class_name[1]}), which is not loaded as it could "
                                f"run code; save {STATE}") from error  # fmt: skip
        raise RapbenchError(f"{file} is not a PyTorch checkpoint, or is cut short") from error
    tensors, taken = _unwrapped(found, file, part)
    refuse_repeated(tensors, file)
    return tensors, taken


def _unwrapped(found: Any, file: Path, part: str | None) -> tuple[dict[str, Tensor], str]:
    parts = [str(key) for key, value in found.items() if _is_state(value)] if isinstance(found, Mapping) else []
    if part is not None:
        if part not in parts:
            raise RapbenchError(f"{file} has no weights under {part!r}; it has {', '.join(parts) or 'none by name'}")
        return {str(name): tensor for name, tensor in found[part].items()}, part
    if _is_state(found):
        return {str(name): tensor for name, tensor in found.items()}, ""
    if known := [key for key in WRAPPINGS if key in parts]:
        if len(parts) > 1:
            other = next(key for key in parts if key != known[0])
            say(f"{file.name} holds the weights {', '.join(parts)}; {known[0]} is taken (else: model.part={other})")
        return {str(name): tensor for name, tensor in found[known[0]].items()}, known[0] if len(parts) > 1 else ""
    if parts:
        raise RapbenchError(f"{file} holds weights under {', '.join(parts[:5])}; say which with model.part={parts[0]}")
    if isinstance(found, Mapping) and {"optimizer", "param_groups", "optimizer_state_dict"} & set(map(str, found)):
        raise RapbenchError(f"{file} holds an optimiser's state and no network's; save {STATE}")
    wrapped = f"(nor one below {', '.join(WRAPPINGS)})"
    raise RapbenchError(f"{file} holds no mapping of names to tensors {wrapped}; save {STATE}")


def _is_state(value: Any) -> bool:
    """Whether something is a state dict: names to tensors, and nothing else."""
    return isinstance(value, Mapping) and bool(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def without_prefix(tensors: dict[str, Tensor], shapes: Mapping[str, Tensor], where: str) -> dict[str, Tensor]:
    """Return the tensors without what wrappers put before every name: `module.`, `model.`, `backbone.`, `_orig_mod.`.

    Tensors beside a prefix that has all of the network's are another part of what was trained, and are skipped, which
    is said. Raises RapbenchError where two prefixes have all of them.
    """
    if tensors.keys() & shapes.keys():
        return tensors
    needed = [name for name in shapes if not name.endswith("num_batches_tracked")]
    ends = [name for name in tensors if name.endswith(f".{needed[0]}")]
    prefixes = [prefix for prefix in (name.removesuffix(needed[0]) for name in ends)
                if all(prefix + name in tensors for name in needed)]  # fmt: skip
    if len(prefixes) > 1:
        raise RapbenchError(
            f"{where} holds the network {len(prefixes)} times, under {' and '.join(prefixes)}; save one"
        )
    if prefixes:
        (prefix,) = prefixes
        beside = [name for name in tensors if not name.startswith(prefix)]
        if beside:
            say(f"{where}: skipped what is not under {prefix}: {', '.join(beside[:3])}{', ...' if beside[3:] else ''}")
        return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    while not tensors.keys() & shapes.keys():  # one that lacks some is named by what it lacks
        heads = {name.partition(".")[0] for name in tensors if "." in name}
        if len(heads) != 1 or not all("." in name for name in tensors):
            break
        tensors = {name.partition(".")[2]: tensor for name, tensor in tensors.items()}
    return tensors


def check(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise RapbenchError that names what is missing, too much, of another shape or number format, or not finite."""
    needed = [name for name in wanted if name in tensors or not name.endswith("num_batches_tracked")]
    hint = "is the architecture right?"
    if re.search(r"-\d+-of-\d+\.", where):
        hint = f"it is one of several files of a checkpoint: load all into the network and save {STATE}"
    refuse_mismatch(needed, tensors, f"{where}: the checkpoint", hint)
    for name, tensor in tensors.items():
        if tensor.shape != wanted[name].shape:
            raise RapbenchError(f"{where}: {name} has shape {tuple(tensor.shape)}, the architecture's is "
                                f"{tuple(wanted[name].shape)}")  # fmt: skip
        plain = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_meta
        kinds = FLOATS if wanted[name].is_floating_point() else (*WHOLE, *FLOATS)
        if not plain or tensor.dtype not in kinds:
            kind = str(tensor.dtype).removeprefix("torch.") if plain else "quantised, sparse or without values"
            raise RapbenchError(f"{where}: {name} is {kind}, expected floating-point numbers; save the network's "
                                "weights in float32")  # fmt: skip
        if not tensor.to(wanted[name].dtype).isfinite().all():
            raise RapbenchError(f"{where}: {name} holds NaN or infinite values")


def own_preprocessing(made: Model, given: dict[str, Any]) -> Transform:
    """Return what an own architecture states of its inputs, or what is given in its place."""
    mean, std, size = (given[name] for name in ("mean", "std", "size"))
    if mean is None and std is None and size is None:
        return made.transform
    own = made.transform
    if not isinstance(own, Stated) or own != Stated():
        raise RapbenchError(
            f"{made.facts.architecture} returns a Model, which states mean, std and size; set them there"
        )
    return stated(mean, std, size)


def preprocessing(own: Transform, given: dict[str, Any]) -> Transform:
    """Return an architecture's transform, or one with the given parts in place of its own."""
    changed = {key: value for key, value in given.items() if value is not None and key != "size"}
    if not changed:
        return own
    bgr = isinstance(own, Preprocess) and own.bgr
    for key in changed.keys() & {"mean", "std"}:
        if len(changed[key]) != 3 or not all(0 <= value <= 1 for value in changed[key]):
            raise RapbenchError(f"model.{key}={changed[key]}: give three values on 0..1, red first")
        changed[key] = tuple(255 * value for value in (changed[key][::-1] if bgr else changed[key]))
    if min(changed.get("std", (1,))) == 0 or min(changed.get("resize", 1), changed.get("crop", 1)) < 1:
        raise RapbenchError("model.std, model.resize and model.crop must be positive")
    if max(changed.get("resize", 1), changed.get("crop", 1)) > MOST_PIXELS:
        raise RapbenchError(f"model.resize and model.crop must be at most {MOST_PIXELS} pixels")
    kept = {field.name: getattr(own, field.name) for field in fields(Preprocess) if hasattr(own, field.name)}
    return Preprocess(**kept | changed)
