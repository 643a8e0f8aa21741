"""timm's models that have ImageNet-1k weights, as timm/<name> or timm/<name>.<tag>, with timm's own transforms."""

import functools
import logging
import re
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from timm.data import create_transform, resolve_data_config
from timm.models import PretrainedCfg, get_pretrained_cfg, list_models, list_pretrained
from torch import nn

from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.core.paths import homely
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Borrowed
from rapbench.zoo import models
from rapbench.zoo.weights.downloads import hub_file, unreachable

FILES = ("model.safetensors", "pytorch_model.bin")


@functools.cache
def known() -> list[str]:
    """Return timm's names, without and with the tag of the weights."""
    return [f"timm/{name}" for name in (*list_models(), *list_pretrained())]


def build(name: str, classes: int = 1000) -> nn.Module:
    """Return the architecture with random weights, in eval mode."""
    network: nn.Module = timm.create_model(name.removeprefix("timm/"), pretrained=False, num_classes=classes).eval()
    return network


def facts(name: str) -> dict[str, Any]:
    """Return what the registry holds of a model: its facts, its builder and its transform."""
    config = _config(name)
    data = resolve_data_config(pretrained_cfg=config.to_dict())
    mean, std = (tuple(255 * value for value in data[key]) for key in ("mean", "std"))
    crop = data["input_size"][-1]
    resize = int(crop / data["crop_pct"])
    source = config.hf_hub_id or config.url
    return {
        "facts": Facts(
            name=name,
            architecture=f"timm {config.architecture}",
            source=f"timm weights {source}",
            licence=config.license or "not stated by timm",
            classes=config.num_classes,
            hash="SHA-256 that the hub states" if config.hf_hub_id else "SHA-256 in the file's name",
        ),
        "build": functools.partial(build, name),
        "transform": Borrowed(
            own=create_transform(**data, is_training=False),
            mean=mean,
            std=std,
            resize=resize,
            crop=crop,
            interpolation=data["interpolation"],
        ),
    }


@models.family("timm/<name>", known, facts)
def from_timm(name: str) -> Model:
    """Load a timm model with its pretrained weights, which timm itself fits into the network.

    Raises RapbenchError when they cannot be had, or are not for ImageNet's 1,000 classes.
    """
    config, about = _config(name), facts(name)
    if not config.has_weights:
        raise RapbenchError(f"timm has no weights for {name}; bring your own with model=checkpoint")
    if config.num_classes != 1000:
        raise RapbenchError(f"{name} has weights for {config.num_classes:,} classes, not for ImageNet's 1,000; "
                            "choose another tag of the architecture")  # fmt: skip
    if config.hf_hub_id:
        file = _hugging_face_file(config.hf_hub_id, (config.hf_hub_filename,) if config.hf_hub_filename else FILES)
    else:
        file = hub_file(config.url, name)
    overlay = {"file": str(file)}
    network = timm.create_model(name.removeprefix("timm/"), pretrained=True, pretrained_cfg_overlay=overlay)
    return Model(network, transform=about["transform"], facts=about["facts"])


def _config(name: str) -> PretrainedCfg:
    return get_pretrained_cfg(name.removeprefix("timm/"))


def _hugging_face_file(repository: str, names: tuple[str, ...]) -> Path:
    """Return the first of the files that the repository has, checked against the hash that its hub keeps it under."""
    homely(Path(constants.HF_HUB_CACHE), "HF_HOME")
    logging.getLogger("huggingface_hub").propagate = False  # it prints by itself what Hydra would print once more
    offline = "" if constants.is_offline_mode() else unreachable(constants.ENDPOINT)  # it would retry for half a minute
    for name in names:
        try:
            file = Path(hf_hub_download(repository, name, local_files_only=bool(offline)))
        except LocalEntryNotFoundError as error:
            reason = f"it cannot be reached: {offline}" if offline else str(error).splitlines()[0]
            raise RapbenchError(
                f"cannot download {name} of {repository} from the Hugging Face hub ({reason}); get it elsewhere and "
                "use it with model=checkpoint, or use a model whose weights come from a package registry: "
                "resnet50_keras"
            ) from error
        except (EntryNotFoundError, HfHubHTTPError):
            continue
        digest = file.resolve().name  # of the blob that the snapshot points to
        if not re.fullmatch("[0-9a-f]{64}", digest) or file_hash(file) != digest:
            raise RapbenchError(f"{file} does not match the hash that the hub keeps it under; delete it and run again")
        return file
    raise RapbenchError(f"the Hugging Face hub has none of {', '.join(names)} in {repository}")
