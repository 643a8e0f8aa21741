"""Patterns on disk: a safetensors file that knows which weights it was made for, and from which images."""

import functools
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.files import write_whole
from rapbench.core.paths import cache_folder, user_path
from rapbench.model import Model, hash_weights
from rapbench.model.modules import at_rest
from rapbench.patterns.chain import Chain, chain


class NoPatterns(RapbenchError):
    """There is no file of patterns where the methods look."""


FORMAT = "rapbench patterns 2"
ESTIMATOR = "S_a+- before a ReLU, S_a elsewhere (Kindermans et al. 2017, equations 8 and 4)"


def save(
    patterns: dict[str, Tensor],
    model: nn.Module,
    path: str | Path | None = None,
    image_hashes: Sequence[str] | None = None,
) -> Path:
    """Write a model's patterns, and return the file's path.

    Parameters
    ----------
    patterns : dict of str to Tensor
        As `estimate` returned them.
    model : nn.Module
        The model that they are of.
    path : str or Path, optional
        The file; by default where the methods look.
    image_hashes : sequence of str, optional
        The SHA-256 of each image, for the record.

    Raises
    ------
    RapbenchError
        When they are not the patterns of such a model, and when the file cannot be written.
    """
    with at_rest(model):
        _check("these patterns", {name: list(pattern.shape) for name, pattern in patterns.items()}, chain(model))
    weights = _weights_sha256(model)
    target = default_path(weights) if path is None else user_path(str(path), "patterns")
    tensors = {name: pattern.detach().cpu().contiguous() for name, pattern in patterns.items()}
    facts: dict[str, str | int] = {"format": FORMAT, "estimator": ESTIMATOR, "weights_sha256": weights}
    facts["patterns_sha256"] = _hash(io.BytesIO(safetensors.torch.save(tensors)))
    if image_hashes is not None:
        digest = hashlib.sha256("\n".join(sorted(image_hashes)).encode()).hexdigest()
        facts |= {"images": len(image_hashes), "images_sha256": digest}
    metadata = {"rapbench": json.dumps(facts)}  # one entry, for safetensors writes several in any order
    write_whole(target, safetensors.torch.save(tensors, metadata))
    return target


def find(model: nn.Module, path: str | None) -> Path:
    """Return the file that the methods' option `patterns` stands for; None is the one in the cache for these weights.

    Raises RapbenchError for a network that has no patterns, and, with the command that makes it, for a missing file.
    """
    with at_rest(model):
        chain(model)
    return _existing(model, path, _weights_sha256(model))


def load(model: nn.Module, network: Chain, path: str | None) -> dict[str, Tensor]:
    """Read a model's patterns by layer, on the device of its weights and of their type.

    Parameters
    ----------
    model : nn.Module
        The model that they must be of.
    network : Chain
        Its chain.
    path : str, optional
        The file; by default the one in the cache for these weights.

    Raises
    ------
    RapbenchError
        Says what is wrong with the file: missing, broken, made for other weights, changed since it was written, or
        tensors that are missing, unknown, of a wrong shape or not finite.
    """
    weights = _weights_sha256(model)
    place = _existing(model, path, weights)
    again = "make it again with `rapbench patterns`"
    try:
        with safe_open(place, framework="pt") as file:
            facts = json.loads((file.metadata() or {}).get("rapbench", "{}"))
            if facts.get("format") != FORMAT:
                said = facts.get("format", "nothing")
                raise RapbenchError(f"{place} should say that its format is {FORMAT!r}, it says {said!r}; {again}")
            if facts.get("weights_sha256") != weights:
                raise RapbenchError(
                    f"the patterns in {place} were made for other weights: SHA-256 {facts.get('weights_sha256')}, "
                    f"this model's are {weights}; {again}, or name another file"
                )
            _check(str(place), {name: file.get_slice(name).get_shape() for name in file.keys()}, network)  # noqa: SIM118
            found = {name: file.get_tensor(name) for name in network.layers}
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise RapbenchError(f"{place} is no safetensors file, or a broken one ({error}); {again}") from error
    stat = place.stat()
    if _hash_once(place, stat.st_ino, stat.st_size, stat.st_mtime_ns) != facts.get("patterns_sha256"):
        raise RapbenchError(f"{place} has changed since it was written (its patterns' SHA-256); {again}")
    if wrong := [name for name, pattern in found.items() if not pattern.isfinite().all()]:
        raise RapbenchError(f"{place}: {wrong[0]} holds NaN or infinite values; {again}")
    return {name: found[name].to(layer.weight) for name, layer in network.layers.items()}


def images_of(path: Path) -> int | None:
    """Return from how many images a file's patterns were estimated; None where it does not say."""
    try:
        with safe_open(path, framework="pt") as file:
            count = json.loads((file.metadata() or {}).get("rapbench", "{}")).get("images")
    except (SafetensorError, OSError, ValueError, AttributeError):
        return None
    return count if isinstance(count, int) else None


def default_path(weights_sha256: str) -> Path:
    """Return where patterns lie unless another place is named: in the user's cache, by the weights they belong to."""
    return cache_folder() / "patterns" / f"{weights_sha256}.safetensors"


@functools.lru_cache(maxsize=16)
def _hash_once(path: Path, inode: int, size: int, modified: int) -> str:
    """Return `_hash` of a file as it was when last modified: every chunk of a run asks."""
    with path.open("rb") as file:
        return _hash(file)


def _hash(file: IO[bytes]) -> str:
    """Return the SHA-256 over a safetensors file but for its metadata: the tensors' names, types, places and bytes."""
    header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _weights_sha256(model: nn.Module) -> str:
    return model.weights_sha256 if isinstance(model, Model) else hash_weights(model)


def _existing(model: nn.Module, path: str | None, weights: str) -> Path:
    place = default_path(weights) if path is None else user_path(str(path), "patterns")
    if place.is_file():
        return place
    if isinstance(model, Model):
        output = "" if path is None else f" --output {path}"
        make = f"rapbench patterns --model {model.facts.asked or model.facts.name} --images FOLDER{output}"
    else:
        output = "" if path is None else f", {path!r}"
        make = f"rapbench.patterns.save(rapbench.patterns.estimate(model, batches), model{output})"
    refusal = NoPatterns if path is None else RapbenchError
    raise refusal(f"there are no patterns at {place}; make them from images: {make}")


def _check(what: str, shapes: dict[str, list[int]], network: Chain) -> None:
    wanted = {name: list(layer.weight.shape) for name, layer in network.layers.items()}  # type: ignore[arg-type]
    wrong = [f"{name} is missing" for name in wanted if name not in shapes]
    wrong += [f"{name} is unknown" for name in shapes if name not in wanted]
    wrong += [
        f"{name} has shape {shapes[name]} instead of {shape}"
        for name, shape in wanted.items()
        if shapes.get(name, shape) != shape
    ]
    if wrong:
        raise RapbenchError(f"{what} and the model's layers do not match: {', '.join(wrong)}")
