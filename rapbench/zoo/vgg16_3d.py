"""VGG-16's order of layers [simonyan2015vgg] in three dimensions, for cubes of 32 voxels, as in [nam2019rap].

Convolutions and hidden dense layers have batch normalisation in the place of biases.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.files import file_hash
from rapbench.core.paths import user_path
from rapbench.model import OWN, Facts, Model
from rapbench.model.preprocessing import stated
from rapbench.zoo import models
from rapbench.zoo.checkpoint import check, read_tensors, without_prefix

SIDE = 32  # voxels, of which five max pools leave one
CLASS_NAMES = ("other", "nodule")
DEPTHS = (2, 2, 3, 3, 3)  # convolutions before each max pool
CHANNELS = (64, 128, 256, 512, 512)  # of VGG-16, after each of them
DENSE = 4096  # of VGG-16's hidden dense layers
WIDTH = 0.125  # of random weights, unless one is given
WIDEST = 4.0


@dataclass(frozen=True)
class Shape:
    """channels: after each block of convolutions. dense: of the two hidden dense layers."""

    channels: tuple[int, ...]
    dense: int

    @staticmethod
    def scaled(width: float, dense: int | None = None) -> "Shape":
        """Return VGG-16's numbers times `width`, rounded, at least 1."""
        return Shape(tuple(max(1, round(width * count)) for count in CHANNELS), dense or max(1, round(width * DENSE)))


def network(shape: Shape, dropout: float = 0.0) -> nn.Sequential:
    """Return the architecture with torch's random weights: (N, 1, 32, 32, 32) in 0..1 -> (N, 2) logits."""
    layers: list[nn.Module] = []
    before = 1
    for depth, channels in zip(DEPTHS, shape.channels, strict=True):
        for _ in range(depth):
            layers += [nn.Conv3d(before, channels, 3, padding=1, bias=False), nn.BatchNorm3d(channels)]
            layers.append(nn.ReLU(inplace=True))
            before = channels
        layers.append(nn.MaxPool3d(2))
    dense: list[nn.Module] = []
    for _ in range(2):
        dense += [
            nn.Linear(before, shape.dense, bias=False),
            nn.BatchNorm1d(shape.dense),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        ]
        before = shape.dense
    return nn.Sequential(*layers, nn.Flatten(), *dense, nn.Linear(before, len(CLASS_NAMES)))


@models.register("vgg16_3d")
def vgg16_3d(
    *,
    path: str | None = None,
    width: float | None = None,
    dense: int | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> Model:
    """Return the network with the weights of a file, such as a fold's of `rapbench train`, else with random ones.

    path: a .safetensors or .pth file of this architecture; its widths are the file's. width: what VGG-16's numbers of
    channels are multiplied by; of random weights 0.125 where it is None. dense: width of the two hidden dense layers;
    None: VGG-16's 4096 times width. dropout: after each of them, in training; with VGG-16's 0.5 a narrow network learns
    nothing. seed: of random weights. Raises RapbenchError for a file that does not fit, or a width that is not the
    file's.
    """
    if width is not None and not 0 < width <= WIDEST:
        raise RapbenchError(f"model.width={width} must be above 0 and at most {WIDEST:g}; 1 is VGG-16's")
    if dense is not None and not 1 <= dense <= WIDEST * DENSE:
        raise RapbenchError(f"model.dense={dense} must be in 1..{WIDEST * DENSE:.0f}")
    if not 0 <= dropout < 1:
        raise RapbenchError(f"model.dropout={dropout} must be at least 0 and below 1")
    if path is None:
        shape = Shape.scaled(WIDTH if width is None else width, dense)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = network(shape, dropout)
        facts = Facts("vgg16_3d", _architecture(shape), f"random numbers, seed {seed}: not trained", "none",
                      classes=len(CLASS_NAMES))  # fmt: skip
    else:
        file = user_path(path, "model.path")
        found, _ = read_tensors(file)
        where = f"{file}, as vgg16_3d"
        with torch.device("meta"):
            names = network(Shape.scaled(WIDTH)).state_dict()
        tensors = without_prefix(found, names, where)
        shape = shape_in(tensors, where)
        _refuse_other(shape, width, dense, where)
        with torch.device("meta"):
            check(network(shape).state_dict(), tensors, where)
        made = network(shape, dropout)
        made.load_state_dict(tensors, strict=False)
        facts = Facts("vgg16_3d", _architecture(shape), f"{file.name} (SHA-256 {file_hash(file)})", OWN,
                      classes=len(CLASS_NAMES), asked=f"vgg16_3d --option path={file}")  # fmt: skip
    return Model(made, transform=stated([0.0], [1.0], [SIDE] * 3), facts=facts, class_names=CLASS_NAMES)


def shape_in(tensors: Mapping[str, Tensor], where: str) -> Shape:
    """Return the widths that a file's tensors have. Raises RapbenchError where they are no vgg16_3d's."""
    with torch.device("meta"):
        layers = list(network(Shape.scaled(WIDTH)).named_children())
    convolutions = [name for name, layer in layers if isinstance(layer, nn.Conv3d)]
    linear = next(name for name, layer in layers if isinstance(layer, nn.Linear))
    last = [sum(DEPTHS[: block + 1]) - 1 for block in range(len(DEPTHS))]
    wanted = {f"{convolutions[number]}.weight": 5 for number in last} | {f"{linear}.weight": 2}
    for name, dimensions in wanted.items():
        if name not in tensors or tensors[name].dim() != dimensions or not len(tensors[name]):
            raise RapbenchError(f"{where}: there is no {name} of {dimensions} dimensions; is it a file of vgg16_3d?")
    *channels, dense = (len(tensors[name]) for name in wanted)
    return Shape(tuple(channels), dense)


def _refuse_other(shape: Shape, width: float | None, dense: int | None, where: str) -> None:
    if width is not None and Shape.scaled(width).channels != shape.channels:
        raise RapbenchError(
            f"{where} has {shape.channels} channels, by model.width={width:g} they would be "
            f"{Shape.scaled(width).channels}; leave model.width out, as the file tells it"
        )
    if dense is not None and dense != shape.dense:
        raise RapbenchError(
            f"{where} has dense layers of width {shape.dense}, not {dense}; leave model.dense out, as the file tells it"
        )


def _architecture(shape: Shape) -> str:
    return f"VGG-16 in 3-D with batch norm ({'-'.join(map(str, shape.channels))} channels, dense {shape.dense})"
