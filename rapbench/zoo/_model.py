"""A network with what belongs to it: its preprocessing, its facts, and the identity of its weights."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from rapbench.errors import RapbenchError

if TYPE_CHECKING:
    from rapbench.registry import Entry


@dataclass(frozen=True)
class Preprocess:
    """From a picture to a network's input: resize the short side, crop the centre, (x - mean) / std on 0..255.

    mean, std: of the network's channels, in its order (blue first with `bgr`).
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int = 256
    crop: int = 224
    interpolation: str = "bilinear"
    bgr: bool = False

    def __call__(self, image: Image.Image) -> Tensor:
        """Return (3, crop, crop) float32 for an image of any size and mode."""
        resized = vision.resize(image.convert("RGB"), [self.resize], InterpolationMode(self.interpolation))
        pixels = vision.pil_to_tensor(vision.center_crop(resized, [self.crop])).float()
        if self.bgr:
            pixels = pixels.flip(0)
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return (pixels - mean) / std

    @property
    def normalisation(self) -> tuple[Tensor, Tensor]:
        """The (mean, std) of the channels, (3,) each, for pixel values in 0..1."""
        return torch.tensor(self.mean) / 255, torch.tensor(self.std) / 255


@dataclass(frozen=True)
class Borrowed:
    """A library's own transform, and what it is made of, in the terms of Preprocess."""

    own: Callable[[Image.Image], Tensor]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: int
    crop: int
    interpolation: str

    def __call__(self, image: Image.Image) -> Tensor:
        """Return what the library makes of an image of any mode."""
        return self.own(image.convert("RGB"))

    @property
    def normalisation(self) -> tuple[Tensor, Tensor]:
        """The (mean, std) of the channels, (3,) each, for pixel values in 0..1."""
        return torch.tensor(self.mean), torch.tensor(self.std)


Transform = Preprocess | Borrowed


@dataclass(frozen=True)
class Facts:
    """Where a model's weights come from, under which licence, and what is known of them."""

    name: str
    architecture: str
    source: str
    licence: str
    classes: int = 1000
    top1: float | None = None  # per cent on the ILSVRC-2012 validation set, as published
    hash: str = ""  # what the file or its tensors are checked against
    asked: str = ""  # how the command line names it, where not by its name


class ZooModel(nn.Module):
    """A zoo model in eval mode: (N, 3, H, W) preprocessed -> (N, classes) logits."""

    def __init__(self, network: nn.Module, transform: Transform, facts: Facts, weights_sha256: str | None = None):
        """Take a network; raise RapbenchError when its weights are not those that `weights_sha256` names."""
        super().__init__()
        self.entry: Entry[Any] | None = None  # of the registry, and the options that it was loaded with
        self.options: dict[str, Any] = {}
        self.network = network
        self.eval()
        self.transform = transform
        self.facts = facts
        self.weights_sha256 = hash_weights(network)
        if weights_sha256 not in (None, self.weights_sha256):
            raise RapbenchError(
                f"model {facts.name!r}: the weights from {facts.source} are not the expected ones (SHA-256 "
                f"{self.weights_sha256}, expected {weights_sha256}); delete the cached copy and run again"
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of preprocessed images."""
        return self.network(x)


def hash_weights(network: nn.Module) -> str:
    """Return the SHA-256 over every parameter and buffer: name, shape and bytes, whatever file they came from."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
