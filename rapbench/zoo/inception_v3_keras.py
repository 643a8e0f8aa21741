"""Keras' own ImageNet Inception-V3 [szegedy2016inception], [chollet2015keras].

torchvision's architecture, but batch norms have no gamma and average pooling leaves the padding out of its count.
"""

import re

import torch.fx
from torch import nn
from torch.nn import functional
from torchvision.models.inception import Inception3

from rapbench.model import Facts, Model
from rapbench.model.preprocessing import Preprocess
from rapbench.zoo import models
from rapbench.zoo.weights.keras import Layers, Official, classes_in, download, facts_of, fill, find, read_layers

OFFICIAL = Official(
    file="inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    address="https://storage.googleapis.com/tensorflow/keras-applications/inception_v3/"
    "inception_v3_weights_tf_dim_ordering_tf_kernels.h5",
    md5=("9a0d58056eeedaa3f26cb7ebd46da564",),
)
FACTS = Facts(
    name="inception_v3_keras",
    architecture="Inception-V3 (Keras)",
    source=f"Keras' {OFFICIAL.file}",
    licence="Apache-2.0",
    top1=77.9,
    hash=f"MD5 of the file, {OFFICIAL.md5[0]}",
)
TRANSFORM = Preprocess(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5), resize=342, crop=299)


def keras_inception_v3(classes: int = 1000) -> nn.Module:
    """Build the architecture with random weights, in eval mode."""
    network = Inception3(num_classes=classes, aux_logits=False, transform_input=False, init_weights=False).eval()
    graph = torch.fx.symbolic_trace(network)
    for node in graph.graph.find_nodes(op="call_function", target=functional.avg_pool2d):
        node.kwargs = {**node.kwargs, "count_include_pad": False}
    graph.recompile()
    return graph


@models.register("inception_v3_keras", facts=FACTS, build=keras_inception_v3, transform=TRANSFORM)
def inception_v3_keras(*, path: str | None = None) -> Model:
    """Load the model from `path`, from Keras' cache folder, or from Keras' download (96 MB).

    A file of one's own may have any number of classes. Raises RapbenchError when there is none or it does not fit.
    """
    file = find(OFFICIAL, path) or download(OFFICIAL)
    layers = read_layers(file)
    classes = classes_in(layers, "predictions", str(file))
    network = keras_inception_v3(classes)
    fill(named_layers(network), numbered(layers), str(file))
    return Model(network, transform=TRANSFORM, facts=facts_of(FACTS, OFFICIAL, file, classes))


def named_layers(network: nn.Module) -> dict[str, nn.Module]:
    """Return the network's layers by Keras' names, which count in the order of the network's making."""
    names: dict[str, nn.Module] = {}
    for kind, name in ((nn.Conv2d, "conv2d"), (nn.BatchNorm2d, "batch_normalization")):
        layers = [module for module in network.modules() if isinstance(module, kind)]
        names |= {f"{name}_{number}": layer for number, layer in enumerate(layers, start=1)}
    return names | {"predictions": network.get_submodule("fc")}


def numbered(layers: Layers) -> Layers:
    """Return the layers counted from 1, whatever number Keras' session had reached when it made the network."""
    found = dict(layers)
    for kind in ("conv2d", "batch_normalization"):
        counted = {int(match[1] or 0): name for name in layers if (match := re.fullmatch(rf"{kind}(?:_(\d+))?", name))}
        weights = [found.pop(counted[number]) for number in sorted(counted)]
        found |= {f"{kind}_{number}": arrays for number, arrays in enumerate(weights, start=1)}
    return found
