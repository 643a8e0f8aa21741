"""The networks that RAP and its comparators are proven on, with random weights and calibrated norms."""

import re
from collections.abc import Callable
from dataclasses import dataclass

import timm
import torch
import torchvision
from torch import nn

from rapbench.zoo.inception_v3_keras import keras_inception_v3
from rapbench.zoo.resnet50_keras import keras_resnet50
from tests.conftest import calibrated


@dataclass(frozen=True)
class Case:
    """build: the network with 10 classes. small: an input size for quick tests, full: the one it is made for."""

    build: Callable[[], nn.Module]
    small: tuple[int, ...]
    full: tuple[int, ...]
    heavy: bool = False

    def network(self, shape: tuple[int, ...]) -> nn.Module:
        torch.manual_seed(0)
        return calibrated(self.build(), 0, shape=shape)


def vgg3d() -> nn.Module:
    """A VGG for volumes, with batch norm and what else three dimensions have."""
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding="same"), nn.BatchNorm3d(6), nn.ReLU(inplace=True), nn.MaxPool3d(2),
        nn.Conv3d(6, 8, 3, padding=1, stride=(1, 2, 2)), nn.BatchNorm3d(8), nn.ReLU(inplace=True), nn.AvgPool3d(2),
        nn.Flatten(), nn.Linear(8 * 2 * 1 * 1, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 10),
    )  # fmt: skip


def _torchvision(name: str, small: int = 64, full: int = 224, heavy: bool = False, **options: object) -> Case:
    def build() -> nn.Module:
        return torchvision.models.get_model(name, weights=None, num_classes=10, **options)

    return Case(build, (3, small, small), (3, full, full), heavy)


def _timm(name: str, small: int = 64, full: int = 224, heavy: bool = False) -> Case:
    return Case(lambda: timm.create_model(name, num_classes=10), (3, small, small), (3, full, full), heavy)


def _transformer(name: str, small: int = 32, **options: object) -> Case:
    def build() -> nn.Module:
        return timm.create_model(name, num_classes=10, **options)

    return Case(build, (3, small, small), (3, small, small))


# Transformers and networks with layer norm, at the size that they are made for or smaller.
MODERN = {
    "vit_b_16, 32 pixels": Case(
        lambda: torchvision.models.VisionTransformer(32, 8, 2, 2, 32, 64, num_classes=10), (3, 32, 32), (3, 32, 32)
    ),
    "swin_t": _torchvision("swin_t"),
    "convnext_tiny": _torchvision("convnext_tiny"),
    "timm/vit_tiny_patch16_224, 64 pixels": _transformer("vit_tiny_patch16_224", 64, img_size=64),
    "timm/deit3_small_patch16_224, 64 pixels": _transformer("deit3_small_patch16_224", 64, img_size=64),
    "timm/convnextv2_atto": _timm("convnextv2_atto"),
    "timm/mobilenetv4_conv_small": _timm("mobilenetv4_conv_small"),
    "timm/efficientnetv2_rw_t": _timm("efficientnetv2_rw_t"),
}
NETWORKS = {
    "vgg16": _torchvision("vgg16", heavy=True),
    "vgg16_bn": _torchvision("vgg16_bn", heavy=True),
    "resnet18": _torchvision("resnet18"),
    "resnet50": _torchvision("resnet50"),
    # its auxiliary head needs the full size to be calibrated
    "inception_v3": _torchvision("inception_v3", 299, 299, heavy=True, init_weights=False),
    "inception_v3, transforming its input": _torchvision(
        "inception_v3", 96, 299, init_weights=False, transform_input=True, aux_logits=False
    ),
    "googlenet": _torchvision("googlenet", init_weights=False),
    "densenet121": _torchvision("densenet121"),
    "mobilenet_v2": _torchvision("mobilenet_v2"),
    "mobilenet_v3_small": _torchvision("mobilenet_v3_small"),
    "efficientnet_b0": _torchvision("efficientnet_b0"),
    "shufflenet_v2_x0_5": _torchvision("shufflenet_v2_x0_5"),
    "timm/vgg16": _timm("vgg16", heavy=True),
    "timm/resnet50": _timm("resnet50"),
    "timm/inception_v3": _timm("inception_v3", 96, 299),
    "timm/tf_efficientnet_lite0": _timm("tf_efficientnet_lite0"),
    "timm/seresnet18": _timm("legacy_seresnet18"),
    "resnet50_keras": Case(lambda: keras_resnet50(10), (3, 64, 64), (3, 224, 224)),
    "inception_v3_keras": Case(lambda: keras_inception_v3(10), (3, 96, 96), (3, 299, 299)),
    "vgg3d": Case(vgg3d, (1, 8, 8, 8), (1, 8, 8, 8)),
}


def operation_in(reason: str) -> str:
    """Return the operation that is unsupported, or what else a refusal says first."""
    if "cancels" in reason:
        return "relevance that cancels beyond rounding"
    found = re.search(r"(?:no (?:relevance )?rule for|one after another;) (\w+)", reason)
    return found[1] if found else re.split(";|, and ", reason)[0]
