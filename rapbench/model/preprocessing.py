"""From a picture to a network's input, and what is known of the inputs: their size, and how they are normalised."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as vision

from rapbench.core.errors import RapbenchError
from rapbench.core.tensors import what_is


@dataclass(frozen=True)
class Preprocess:
    """From an image to a network's input: resize the short side, crop the centre, (x - mean) / std on 0..255.

    Parameters
    ----------
    mean, std : tuple of float, (C,)
        Of the network's channels, in its order (blue first with `bgr`).
    resize, crop : int
        Length of the short side and of the cropped square, in pixels.
    interpolation : str
        Of the resizing: bilinear, bicubic or nearest.
    bgr : bool
        Whether the network's channels are blue, green, red.
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
        normalised: Tensor = (pixels - mean) / std
        return normalised

    @property
    def normalisation(self) -> tuple[Tensor, Tensor]:
        """The (mean, std) of the channels, (3,) each, for pixel values in 0..1."""
        return torch.tensor(self.mean) / 255, torch.tensor(self.std) / 255

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial shape of an input."""
        return (self.crop, self.crop)


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

    @property
    def space(self) -> tuple[int, ...]:
        """The spatial shape of an input."""
        return (self.crop, self.crop)


@dataclass(frozen=True)
class Stated:
    """A network's preprocessing as a user states it, checked by `stated`. None: not known.

    Parameters
    ----------
    mean, std : tuple of float, (C,), optional
        Of the channels, for values in 0..1.
    size : tuple of int, optional
        The spatial shape.
    picture : callable, optional
        Makes an input of an image. By default the image is scaled until it covers `size`, centre-cropped and
        normalised.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: tuple[int, ...] | None = None
    picture: Callable[[Image.Image], Tensor] | None = None

    def __call__(self, image: Image.Image) -> Tensor:
        """Return (C, *space) float32 for an image of any size and mode; RapbenchError where it cannot be made."""
        made = self._covering(image) if self.picture is None else self.picture(image.convert("RGB"))
        if not isinstance(made, Tensor) or not made.is_floating_point() or not 2 <= made.dim() <= 4:
            raise RapbenchError(
                f"transform must make a floating-point tensor (C, ...) of a picture, it makes {what_is(made)}"
            )
        channels, space = len(self.mean or made), self.size or made.shape[1:]
        if made.shape != (channels, *space):
            raise RapbenchError(
                f"transform makes inputs of shape {tuple(made.shape)}; by mean, std and size they have "
                f"{(channels, *space)}"
            )
        return made.float()

    def _covering(self, image: Image.Image) -> Tensor:
        if self.mean is None or self.std is None:
            raise RapbenchError("pictures cannot be preprocessed: the model states no mean and std of its channels "
                                "(mean=, std=), nor a transform")  # fmt: skip
        if self.size is None:
            raise RapbenchError("pictures cannot be preprocessed: the model does not state the size of its inputs; "
                                "give size=")  # fmt: skip
        if len(self.size) != 2 or len(self.mean) not in (1, 3):
            raise RapbenchError(
                f"pictures have 2 spatial dimensions and 1 or 3 channels, the model's inputs {len(self.size)} and "
                f"{len(self.mean)}; give the inputs as tensors"
            )
        height, width = self.size
        scale = max(height / image.height, width / image.width)
        sides = [max(side, round(scale * own)) for side, own in ((height, image.height), (width, image.width))]
        resized = vision.resize(image.convert("RGB" if len(self.mean) == 3 else "L"), sides)
        pixels = vision.pil_to_tensor(vision.center_crop(resized, [height, width])).float() / 255
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        normalised: Tensor = (pixels - mean) / std
        return normalised

    @property
    def normalisation(self) -> tuple[Tensor, Tensor] | None:
        """The (mean, std) of the channels, (C,) each, for values in 0..1; None where they are not known."""
        return None if self.mean is None or self.std is None else (torch.tensor(self.mean), torch.tensor(self.std))

    @property
    def space(self) -> tuple[int, ...] | None:
        """The spatial shape of an input; None where it is not known."""
        return self.size


Transform = Preprocess | Borrowed | Stated


def stated(mean: Any, std: Any, size: Any, picture: Callable[[Image.Image], Tensor] | None = None) -> Stated:
    """Return what a user states of a network's inputs. Raises RapbenchError for values that make no sense."""
    if (mean is None) is not (std is None):
        given, missing = ("std", "mean") if mean is None else ("mean", "std")
        raise RapbenchError(f"{given} is given without {missing}; give both, or none for inputs without normalisation")
    means, stds = _moments("mean", mean), _moments("std", std)
    if means and stds and len(means) != len(stds):
        raise RapbenchError(f"mean has {len(means)} channels, std {len(stds)}")
    if stds and min(stds) == 0:
        raise RapbenchError(f"std={list(stds)}: a deviation must be positive")
    if picture is not None and not callable(picture):
        raise RapbenchError(f"transform must be a function from a picture to an input, got {what_is(picture)}")
    return Stated(means, stds, None if size is None else _size(size), picture)


def _moments(name: str, given: Any) -> tuple[float, ...] | None:
    if given is None:
        return None
    values = _listed(given)
    if not values or not all(isinstance(v, (int, float)) and not isinstance(v, bool) and 0 <= v <= 1 for v in values):
        raise RapbenchError(f"{name}={given!r:.100}: give a number in 0..1 for each channel, as torchvision does (of "
                            "values in 0..255, divide by 255)")  # fmt: skip
    return tuple(map(float, values))


def _size(given: Any) -> tuple[int, ...]:
    values = [given, given] if isinstance(given, int) else _listed(given)
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= 1 for v in values)
    if not whole or not 1 <= len(values) <= 3 or math.prod(values) >= 2**31:
        raise RapbenchError(f"size={given!r:.100}: give the side of square images, or 1 to 3 positive whole numbers: "
                            "(height, width), or the spatial shape of the inputs")  # fmt: skip
    return tuple(map(int, values))


def _listed(given: Any) -> list[Any]:
    if hasattr(given, "tolist"):  # tensors and arrays
        given = given.tolist()
    return list(given) if isinstance(given, Iterable) and not isinstance(given, (str, bytes, dict)) else [given]
