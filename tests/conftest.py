"""Small networks of the families the paper uses, with calibrated norms; a real model and ImageNet's layout."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import copy
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch
from timm.data import ImageNetInfo
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

import rapbench
from rapbench.app.registries import REGISTRIES
from rapbench.data.samples import samples
from rapbench.model import Model
from rapbench.relevance import rules
from rapbench.relevance.aaai import AAAI
from rapbench.relevance.lrp import LRP
from rapbench.zoo.resnet50_keras import keras_resnet50
from tests.browser import start


def vgg(norm: bool = False) -> nn.Module:
    def block(before: int, after: int) -> list[nn.Module]:
        norms = [nn.BatchNorm2d(after)] if norm else []
        return [nn.Conv2d(before, after, 3, padding=1), *norms, nn.ReLU(inplace=True), nn.MaxPool2d(2)]

    return nn.Sequential(
        *block(3, 8), *block(8, 12), nn.AdaptiveAvgPool2d(3), nn.Flatten(),
        nn.Linear(108, 24), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(24, 10),
    )  # fmt: skip


def resnet(block: type, keras: bool = False, by: int = 8) -> nn.Module:
    network = ResNet(block, [1, 1, 1, 1], num_classes=10)
    if keras:
        network = keras_resnet50(classes=10)
        network.layer1, network.layer2, network.layer3 = (getattr(network, f"layer{stage}")[:1] for stage in (1, 2, 3))
        network.layer4 = network.layer4[:1]
    return narrow(network, by)


def narrow(network: nn.Module, by: int) -> nn.Module:
    """Divide the channels of all layers: the same graph, in a fraction of the time."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d):
                channels = child.in_channels if child.in_channels == 3 else child.in_channels // by
                setattr(parent, name, nn.Conv2d(channels, child.out_channels // by, child.kernel_size, child.stride,
                                                child.padding, bias=child.bias is not None))  # fmt: skip
            elif isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.BatchNorm2d(child.num_features // by, eps=child.eps))
            elif isinstance(child, nn.Linear):
                setattr(parent, name, nn.Linear(child.in_features // by, child.out_features))
    return network


# by: what a residual network's channels are divided by.
NETWORKS = {
    "vgg": lambda by=8: vgg(),
    "vgg_bn": lambda by=8: vgg(norm=True),
    "resnet_basic": lambda by=8: resnet(BasicBlock, by=by),
    "resnet_bottleneck": lambda by=8: resnet(Bottleneck, by=by),
    "resnet_keras": lambda by=8: resnet(Bottleneck, keras=True, by=by),
}


def calibrated(network: nn.Module, size: int, seed: int = 0, shape: tuple[int, ...] = ()) -> nn.Module:
    """Random weights with batch statistics of a random batch, so that activations keep their scale.

    shape: of one input where it is not (3, size, size).
    """
    generator = torch.Generator().manual_seed(seed)
    network = network.double()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
            module.bias.data.normal_(0, 0.2, generator=generator)
            module.momentum = None
        elif isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                module.bias.data.normal_(0, 0.1, generator=generator)
    network.train()
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.reset_running_stats()
    with torch.no_grad():
        network(torch.randn(8, *(shape or (3, size, size)), dtype=torch.float64, generator=generator))
    return network.eval()


@contextmanager
def nothing_entered_stays() -> Iterator[None]:
    """Forget at the end what has been entered in a registry or in a table of rules, whatever test comes next."""
    for registry in REGISTRIES.values():
        list(registry)  # loads it
    tables = [registry._entries for registry in REGISTRIES.values()]
    tables += [*rules.RULES.maps, *AAAI.maps, *LRP.maps, rules._FORGETFUL, rules._CONDITIONS]
    before = [table.copy() for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        if table != entries:
            table.clear()
            table.update(entries)


@pytest.fixture(autouse=True)
def nothing_of_a_test_stays():
    with nothing_entered_stays():
        yield


@pytest.fixture(autouse=True, scope="module")
def nothing_of_a_modules_fixtures_stays():
    with nothing_entered_stays():
        yield


@cache
def one_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return calibrated(NETWORKS[name](), 32)


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> nn.Module:
    return copy.deepcopy(one_of(request.param))


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def targets() -> torch.Tensor:
    return torch.tensor([2, 7, 4])


@pytest.fixture(scope="session")
def lite() -> Model:
    """EfficientNet-Lite0, the real weights that are installed."""
    return rapbench.load_model("efficientnet_lite0")


@pytest.fixture
def imagenet_root(tmp_path: Path) -> Path:
    lay_out_imagenet(tmp_path / "imagenet")
    return tmp_path / "imagenet"


def lay_out_imagenet(root: Path, count: int | None = None) -> None:
    """Put the embedded images, or the first `count`, into ImageNet's layout: val/<wnid>/<file>."""
    synsets = ImageNetInfo("imagenet-1k").label_names()
    source = samples()
    for sample in source.samples[:count]:
        folder = root / "val" / synsets[sample.label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source.root / sample.file, folder / f"{Path(sample.file).stem}.JPEG")


@pytest.fixture
def browser(tmp_path: Path):
    """A real browser, headless; tests that use it are skipped where there is none, see tests/browser.py."""
    pytest.importorskip("selenium.webdriver")
    driver = start(tmp_path / "profile")
    yield driver
    driver.quit()
