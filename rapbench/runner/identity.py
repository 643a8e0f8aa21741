"""What a result depends on, and what is worth knowing of how it came about."""

import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

import rapbench
from rapbench.registry import Entry

PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "captum",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "pillow",
    "hydra-core",
)


def versions() -> dict[str, str]:
    """Return the versions of rapbench, Python and the packages that a result can depend on."""
    found = {name: importlib.metadata.version(name) for name in ("rapbench", *PACKAGES)}
    return found | {"torch": str(torch.__version__), "python": platform.python_version()}  # torch: with its build


def code_version(entry: Entry) -> str:
    """Return a hash over the sources that a registered function stands on.

    Its own file, the helpers of its room (`_*.py`), and the rooms below it that compute: editing another method leaves
    it alone. A function from outside the package may call any of its room's.
    """
    own = Path(inspect.getfile(entry.function))
    helpers = [*sorted(own.parent.glob("_*.py")), own]
    below: dict[str, tuple[str, ...]] = {
        "method": ("relevance", "patterns", "draws.py"),
        "protocol": ("protocols/ranking.py", "draws.py", "runner/evaluate.py"),
    }
    if not own.is_relative_to(Path(rapbench.__file__).parent):
        below = {"method": (*below["method"], "methods"), "protocol": (*below["protocol"], "protocols")}
    for part in below.get(entry.kind, ()):
        path = Path(rapbench.__file__).parent / part
        helpers += sorted(path.glob("*.py")) if path.is_dir() else [path]
    return _hash_files(tuple(helpers))


@functools.cache
def _hash_files(files: tuple[Path, ...]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:16]


def machine_kind(device: torch.device) -> dict[str, Any]:
    """Return what tells apart machines whose floating point may differ in the last bits."""
    kind: dict[str, Any] = {"device": device.type, "machine": platform.machine()}
    if device.type == "cuda":
        return kind | {"name": torch.cuda.get_device_name(device)}
    return kind | {"threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}


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
    top = Path(rapbench.__file__).parents[1]
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
