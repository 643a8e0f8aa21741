"""Keras' own ImageNet VGG-16, the network of the paper's Table I [simonyan2015vgg], [chollet2015keras].

The weights are those of Oxford's Caffe model. The architecture is torchvision's.
"""

from torch import nn
from torchvision.models.vgg import VGG, vgg16

from rapbench.model import Facts, Model
from rapbench.zoo import models
from rapbench.zoo.weights.keras import CAFFE, Official, classes_in, download, facts_of, fill, find, read_layers

OFFICIAL = Official(
    file="vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    address="https://storage.googleapis.com/tensorflow/keras-applications/vgg16/"
    "vgg16_weights_tf_dim_ordering_tf_kernels.h5",
    md5=("64373286793e3c8b2b4e3219cbf3544b",),
)
FACTS = Facts(
    name="vgg16_keras",
    architecture="VGG-16 (Keras)",
    source=f"Keras' {OFFICIAL.file}",
    licence="CC BY 4.0",
    top1=71.3,
    hash=f"MD5 of the file, {OFFICIAL.md5[0]}",
)
FLATTENED = {"fc1": 7 * 7}  # the last map's area


def keras_vgg16(classes: int = 1000) -> VGG:
    """Build the architecture with random weights, in eval mode."""
    return vgg16(weights=None, num_classes=classes, init_weights=False).eval()


@models.register("vgg16_keras", facts=FACTS, build=keras_vgg16, transform=CAFFE)
def vgg16_keras(*, path: str | None = None) -> Model:
    """Load the model from `path`, from Keras' cache folder, or from Keras' download (553 MB).

    A file of one's own may have any number of classes. Raises RapbenchError when there is none or it does not fit.
    """
    file = find(OFFICIAL, path) or download(OFFICIAL)
    layers = read_layers(file)
    classes = classes_in(layers, "predictions", str(file))
    network = keras_vgg16(classes)
    fill(named_layers(network), layers, str(file), FLATTENED)
    return Model(network, transform=CAFFE, facts=facts_of(FACTS, OFFICIAL, file, classes))


def named_layers(network: VGG) -> dict[str, nn.Module]:
    """Return the network's layers by Keras' names."""
    convolutions = [module for module in network.features if isinstance(module, nn.Conv2d)]
    names = [f"block{block}_conv{number}" for block, depth in enumerate((2, 2, 3, 3, 3), start=1)
             for number in range(1, depth + 1)]  # fmt: skip
    dense = [module for module in network.classifier if isinstance(module, nn.Linear)]
    return dict(zip(names, convolutions, strict=True)) | dict(zip(("fc1", "fc2", "predictions"), dense, strict=True))
