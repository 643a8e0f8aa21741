"""What a result depends on, and what is worth knowing of how it came about."""

import importlib.metadata
import platform
import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rapbench.core.files import file_hash
from rapbench.core.memory_format import placed
from rapbench.core.package import FOLDER, NAME
from rapbench.data.decoding.decode import decode_ahead, in_batches
from rapbench.data.subset.images import load_images
from rapbench.data.subset.predictions import Verdict, draw_order, judge
from rapbench.evaluation.answers import forward_of
from rapbench.evaluation.choice import Choice
from rapbench.evaluation.chunk import Chunk
from rapbench.fingerprint import Code, code_of
from rapbench.fingerprint.objects import OF_MODULES
from rapbench.model import Model, hash_weights
from rapbench.protocols.base.rounding import restored, rounded
from rapbench.registry import home_of
from rapbench.zoo import models

# What a model holds beside its network: names and sources, which move nothing, and what has an entry of its own.
PARTS = ("keras", "report", "samples")  # extras, of which each part is used where it is installed
BESIDE = {"facts", "class_names", "transform", "weights_sha256", "entry", "options", "key"}


def model_key(model: Model) -> dict[str, Any]:
    """Return what the answers of a model depend on: entry, options, weights, structure, preprocessing, and their code.

    Of a file that an option names the content counts, not the path. The network is looked at once, at the first call:
    computing may leave things in it.
    """
    known = model.__dict__.get("key")
    if known is None:
        known = model.__dict__["key"] = _network_key(model)
    return joined(known, "preprocessing", code_of(model.transform))


def _network_key(model: Model) -> dict[str, Any]:
    entry, options = model.entry, model.options
    if entry is None or home_of(entry.function).partition(".")[0] != NAME:
        model.weights_sha256 = hash_weights(model.network)  # a user's code may have changed them since
    builders = [entry.function] if entry else []
    builders += [models[value].function for value in options.values() if isinstance(value, str) and value in models]
    state = {name: value for name, value in vars(model).items() if name not in BESIDE | OF_MODULES}
    settings = {name: value for name, value in options.items() if name not in BESIDE}
    code = code_of(builders, type(model), dict(model.named_children()), state, types=types_of(model))
    name = entry.name if entry else model.facts.name
    return {
        "model": {"name": name, "options": by_content(settings), "weights": model.weights_sha256},
        "code": {"model": code.key},
        "versions": code.versions,
    }


def types_of(model: nn.Module) -> set[type]:
    """Return the types of a network's modules, with those that they inherit from."""
    return {base for module in model.modules() for base in type(module).__mro__}


def draw_key(model: Model, device: torch.device) -> dict[str, Any]:
    """Return what a model's answers in the draw of a subset depend on, but for the images and their order."""
    code = code_of(judge, draw_order, Verdict, decode_ahead, in_batches, placed)
    return joined(model_key(model) | {"machine": machine_kind(device)}, "draw", code)


def evaluation_key(model: Model, device: torch.device) -> dict[str, Any]:
    """Return what every result of a model depends on, whatever the method and the protocol."""
    code = code_of(Chunk, forward_of, load_images, rounded, restored, placed)
    return joined(model_key(model) | {"machine": machine_kind(device)}, "evaluation", code)


def code_of_choice(choice: Choice, model: nn.Module) -> Code:
    """Return the fingerprint of the code of a method or a protocol, as it is on a model."""
    return code_of(choice.entry.function, types=types_of(model))


def identity_of(choice: Choice) -> dict[str, Any]:
    """Return what a choice asks for, whether it states a default or not: of a file, its content, wherever it lies."""
    options = {name: value for name, value in (choice.entry.options | choice.options).items() if name != "k"}
    return {"name": choice.entry.name, "options": by_content(options) | choice.files, "k": choice.options.get("k", {})}


def joined(key: dict[str, Any], part: str, code: Code) -> dict[str, Any]:
    """Return a key with the code of a part, and the versions of the packages that it stands on."""
    return key | {"code": key["code"] | {part: code.key}, "versions": key["versions"] | code.versions}


def by_content(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the SHA-256 of a file in the place of its name."""
    return {name: _content(value) for name, value in options.items()}


def _content(value: Any) -> Any:
    if isinstance(value, str) and value and "\0" not in value:
        try:
            file = Path(value).expanduser()
            return {"sha256": file_hash(file)} if file.is_file() else value
        except (OSError, RuntimeError):  # too long for a name; no home
            return value
    if isinstance(value, (list, tuple)):
        return [_content(item) for item in value]
    return {key: _content(item) for key, item in value.items()} if isinstance(value, dict) else value


def environment() -> dict[str, str]:
    """Return the versions of rapbench, Python and the packages that rapbench requires, for the record."""
    found = {"rapbench": importlib.metadata.version("rapbench")}
    for line in importlib.metadata.requires("rapbench") or ():
        required, _, marker = line.partition(";")
        extra = re.fullmatch(r"\s*extra\s*==\s*['\"](\w+)['\"]\s*", marker)
        match = re.match(r"[\w.-]+", required)
        if match and (not marker or (extra and extra[1] in PARTS)):
            with suppress(importlib.metadata.PackageNotFoundError):  # a part that is not installed
                found[match[0]] = importlib.metadata.version(match[0])
    return found | {"torch": str(torch.__version__), "python": platform.python_version()}  # torch: with its build


def machine_kind(device: torch.device) -> dict[str, Any]:
    """Return what tells apart machines whose floating point may differ in the last bits."""
    kind: dict[str, Any] = {"device": device.type, "machine": platform.machine()} | _switched(device)
    if device.type == "cuda":
        return kind | {"name": torch.cuda.get_device_name(device)}
    return kind | {"threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}


def _switched(device: torch.device) -> dict[str, Any]:
    """Return torch's switches that move the last digits, those that are not as torch sets them."""
    now: dict[str, tuple[Any, Any]] = {
        "matmul": (torch.get_float32_matmul_precision(), "highest"),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), False),
        "mkldnn": (torch.backends.mkldnn.enabled, True),
    }
    if device.type == "cuda":
        cudnn = torch.backends.cudnn
        now |= {
            "cudnn": (cudnn.enabled, True),
            "cudnn benchmark": (cudnn.benchmark, False),
            "cudnn deterministic": (cudnn.deterministic, False),
            "cudnn tf32": (cudnn.allow_tf32, True),
        }
    changed = {name: value for name, (value, default) in now.items() if value != default}
    return {"switches": changed} if changed else {}


def processor() -> str:
    """Return the CPU's name and caches: libraries choose their kernels' blocks, and so the rounding, by them."""
    known = torch.cpu.get_capabilities()
    caches = [f"{level.upper()} {known.get(f'{level}_cache_size', 0) // 1024} KiB" for level in ("l1d", "l2")]
    return ", ".join([known.get("cpu_name") or platform.processor(), *caches])


def bf16_unit(device: torch.device) -> str:
    """Return what computes bfloat16 on a device: its units round differently, where those for float32 agree."""
    if device.type != "cpu":
        return device.type
    has = torch.cpu.get_capabilities()
    return next((unit for unit in ("amx_bf16", "avx512_bf16") if has.get(unit)), "float32")


def git_state() -> dict[str, Any] | None:
    """Return the checkout's commit and whether it has uncommitted changes; None outside a checkout."""
    top = FOLDER.parent
    if not (top / ".git").exists():
        return None
    try:
        commit, changes = (
            subprocess.run(["git", "-C", str(top), *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {"commit": commit, "dirty": bool(changes)}
