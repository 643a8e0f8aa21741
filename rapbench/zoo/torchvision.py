"""torchvision's classification models, each with the weights of its own enum and their own transforms."""

import functools
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import torch
import torchvision.models
from torch import nn
from torchvision.models import WeightsEnum, get_model, get_model_weights, list_models

from rapbench.core.errors import RapbenchError
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Borrowed
from rapbench.zoo import models
from rapbench.zoo.weights.downloads import hub_file

# Heads that are only trained with; weights files hold them, `build` leaves them out.
AUXILIARY = ("AuxLogits.", "aux1.", "aux2.")


def known() -> list[str]:
    """Return the names of torchvision's classification models."""
    return list(list_models(module=torchvision.models))


def build(name: str, classes: int = 1000) -> nn.Module:
    """Return the architecture with random weights, in eval mode, as torchvision makes it for trained weights."""
    options: dict[str, Any] = {}
    if name in ("inception_v3", "googlenet"):  # both scale the input by themselves, from ImageNet's moments to +-1
        options = {"transform_input": True, "aux_logits": False, "init_weights": False}
    network: nn.Module = get_model(name, weights=None, num_classes=classes, **options).eval()
    return network


def facts(name: str, weights: str = "DEFAULT") -> dict[str, Any]:
    """Return what the registry holds of a model: its facts, its builder and its transform."""
    entry = _weights(name, weights)
    preset = entry.transforms()
    mean, std = (tuple(255 * value for value in values) for values in (preset.mean, preset.std))
    return {
        "facts": Facts(
            name=name,
            architecture=f"torchvision {name}",
            source=f"torchvision {entry}",
            licence="BSD-3-Clause",
            classes=len(entry.meta.get("categories", range(1000))),
            top1=entry.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
            hash=f"SHA-256 in the file's name, {Path(urlparse(entry.url).path).name}",
        ),
        "build": functools.partial(build, name),
        "transform": Borrowed(
            own=preset,
            mean=mean,
            std=std,
            resize=preset.resize_size[0],
            crop=preset.crop_size[0],
            interpolation=preset.interpolation.value,
        ),
        "unused": AUXILIARY,
    }


@models.family("any of torchvision's classification models", known, facts)
def from_torchvision(name: str, *, weights: str = "DEFAULT") -> Model:
    """Load a torchvision model by its name there; `weights` names a member of its weights enum.

    The download is kept in torch.hub's folder. Raises RapbenchError when it cannot be had, or for unknown weights.
    """
    entry, about = _weights(name, weights), facts(name, weights)
    tensors = torch.load(hub_file(entry.url, name), map_location="cpu", weights_only=True)
    network = build(name, about["facts"].classes)
    network.load_state_dict({key: value for key, value in tensors.items() if not key.startswith(AUXILIARY)})
    return Model(network, transform=about["transform"], facts=about["facts"])


def _weights(name: str, weights: str) -> WeightsEnum:
    members = get_model_weights(name).__members__
    if weights not in members:
        raise RapbenchError(f"torchvision's {name} has no weights {weights!r}; known: {', '.join(members)}")
    return members[weights]


def _register(name: str, weights: str = "DEFAULT") -> None:
    """Give a model of the family an entry of its own, under its own default weights."""

    def load(*, weights: str = weights) -> Model:
        model: Model = from_torchvision(name, weights=weights)
        return model

    models.register(name, **facts(name, weights))(load)


_register("vgg16")
_register("vgg16_bn")
_register("resnet50", "IMAGENET1K_V1")  # trained as in the paper [he2016resnet]; torchvision's default is V2
_register("inception_v3")
