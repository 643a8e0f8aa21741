"""torchvision's classification models with their own default weights and preprocessing."""

import hashlib
from pathlib import Path
from urllib.parse import urlparse

import torch
from torchvision.models import get_model, get_model_weights

from rapbench.errors import RapbenchError
from rapbench.zoo import models
from rapbench.zoo._model import Facts, Preprocess, ZooModel


@models.register("vgg16")
def vgg16() -> ZooModel:
    """VGG-16 (Simonyan & Zisserman 2015)."""
    return from_torchvision("vgg16")


@models.register("vgg16_bn")
def vgg16_bn() -> ZooModel:
    """VGG-16 with batch normalisation."""
    return from_torchvision("vgg16_bn")


@models.register("resnet50")
def resnet50() -> ZooModel:
    """ResNet-50 (He et al. 2016), torchvision's first weights, trained as in the paper."""
    return from_torchvision("resnet50", "IMAGENET1K_V1")


def from_torchvision(name: str, weights: str = "DEFAULT") -> ZooModel:
    """Load a torchvision model by its name there; `weights` names a member of its weights enum.

    The download is kept in torch.hub's folder and checked, cached or not, against the hash in its name.
    Raises RapbenchError when it cannot be downloaded or is not the file it should be.
    """
    entry = get_model_weights(name)[weights]
    preset = entry.transforms()
    transform = Preprocess(
        mean=tuple(255 * value for value in preset.mean),
        std=tuple(255 * value for value in preset.std),
        resize=preset.resize_size[0],
        crop=preset.crop_size[0],
        interpolation=preset.interpolation.value,
    )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlparse(entry.url).path).name
    try:
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.hub.download_url_to_file(entry.url, str(file), hash_prefix=_hash_in_name(file))
    except (OSError, RuntimeError) as error:
        raise RapbenchError(
            f"cannot download the weights of {name!r} ({error}); get {file.name} from torchvision's model list and "
            f"put it at {file}, or use a model whose weights come from a package registry: resnet50_keras"
        ) from error
    with file.open("rb") as opened:
        if not hashlib.file_digest(opened, "sha256").hexdigest().startswith(_hash_in_name(file)):
            raise RapbenchError(f"{file} does not match the hash in its name; delete it and run again")
    network = get_model(name, weights=None)
    network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
    top1 = entry.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1")
    return ZooModel(network, transform, Facts(name, name, f"torchvision {entry}", "BSD-3-Clause", top1=top1))


def _hash_in_name(file: Path) -> str:
    return file.stem.rsplit("-", 1)[1]
