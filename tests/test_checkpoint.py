"""A user's own weights: every way people save them, every architecture of the zoo, and what does not fit is named."""

import argparse
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn

import rapbench
from rapbench.zoo import models
from tests.conftest import calibrated

SMALL = ["mobilenet_v3_small", "timm/test_resnet", "squeezenet1_1"]


def trained(name: str, classes: int) -> nn.Module:
    torch.manual_seed(0)
    return calibrated(models[name].facts["build"](classes), 64).float()


def load(path: Path, architecture: str = "mobilenet_v3_small", **options: object) -> nn.Module:
    return rapbench.load_model("checkpoint", architecture=architecture, path=str(path), **options)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    return trained("mobilenet_v3_small", 5).state_dict()


@pytest.mark.parametrize("classes", [5, 1000])
@pytest.mark.parametrize("name", SMALL)
def test_a_checkpoint_of_any_class_count_gives_its_networks_logits(name, classes, tmp_path):
    network = trained(name, classes)
    safetensors.torch.save_file(network.state_dict(), tmp_path / "mine.safetensors")
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    x = torch.randn(2, 3, 64, 64)
    for file in ("mine.safetensors", "mine.pth"):
        model = load(tmp_path / file, name)
        with torch.no_grad():
            torch.testing.assert_close(model(x), network(x))
        assert (model.facts.name, model.facts.classes) == ("mine", classes)
        assert model.facts.source.startswith(f"{file} (SHA-256 ")
    assert repr(model.transform) == repr(models[name].facts["transform"])


@pytest.mark.parametrize("name", [name for name in models if "build" in models[name].facts])
def test_every_architecture_of_the_zoo_takes_a_checkpoint_of_its_own_classes(name, tmp_path):
    """Weights expanded from single numbers: real shapes, small file."""
    with torch.device("meta"):
        shapes = models[name].facts["build"](3).state_dict()
    torch.save({key: torch.tensor(0.25).expand(tensor.shape) for key, tensor in shapes.items()}, tmp_path / "c.pth")
    model = load(tmp_path / "c.pth", name)
    assert model.facts.classes == 3
    assert all(bool((tensor == 0.25).all()) for tensor in model.network.parameters())


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "epoch": 3, "best": 0.5},
    lambda state: {"model": {f"module.{key}": value for key, value in state.items()}},
    lambda state: {f"model.{key}": value for key, value in state.items()},
    lambda state: {f"_orig_mod.module.{key}": value for key, value in state.items()},
    lambda state: {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")},
    lambda state: {key: value.half() if value.is_floating_point() else value for key, value in state.items()},
])  # fmt: skip
def test_what_training_scripts_wrap_around_weights_is_taken_off(wrap, state, tmp_path):
    torch.save(wrap(state), tmp_path / "mine.pth")
    for key, tensor in load(tmp_path / "mine.pth").network.state_dict().items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, state[key], rtol=1e-3, atol=1e-3)


def test_auxiliary_heads_in_a_checkpoint_are_left_out(tmp_path):
    with torch.device("meta"):
        shapes = models["inception_v3"].facts["build"](3).state_dict() | {"AuxLogits.fc.weight": torch.empty(3, 768)}
    torch.save({key: torch.tensor(1.0).expand(tensor.shape) for key, tensor in shapes.items()}, tmp_path / "c.pth")
    assert load(tmp_path / "c.pth", "inception_v3").facts.classes == 3


def test_preprocessing_is_the_architectures_unless_given(state, tmp_path):
    torch.save(state, tmp_path / "mine.pth")
    picture = Image.new("RGB", (300, 200), (255, 51, 0))
    model = load(tmp_path / "mine.pth", mean=[0.5, 0.2, 0.0], std=[0.5, 0.25, 1.0], crop=160, interpolation="bicubic")
    x = model.transform(picture)
    assert x.shape == (3, 160, 160)
    torch.testing.assert_close(x[:, 80, 80], torch.tensor([1.0, 0.0, 0.0]))
    assert (model.transform.resize, model.transform.interpolation) == (256, "bicubic")
    torch.save(models["resnet50_keras"].facts["build"](2).state_dict(), tmp_path / "keras.pth")
    x = load(tmp_path / "keras.pth", "resnet50_keras", mean=[0.5, 0.2, 0.0], resize=300).transform(picture)
    torch.testing.assert_close(x[:, 80, 80], torch.tensor([0.0, 0.0, 127.5]))  # its channels are blue first


def broken(state: dict[str, torch.Tensor], name: str, folder: Path) -> Path:
    """Write a broken checkpoint of the named kind."""
    path = folder / "broken.pth"
    key = "features.0.0.weight"
    if name == "none":
        return path
    if name == "cut":
        torch.save(state, path)
        path.write_bytes(path.read_bytes()[:5000])
    elif name == "noise":
        path.write_bytes(bytes(range(256)) * 8)
    elif name == "empty":
        path.write_bytes(b"")
    elif name == "code":
        torch.save({"state_dict": state, "hparams": argparse.Namespace(lr=1)}, path)
    elif name == "module":
        torch.save(nn.Linear(2, 2), path)
    elif name == "list":
        torch.save([1, 2], path)
    elif name == "numbers":
        torch.save({"epoch": 3}, path)
    elif name == "nan":
        torch.save(state | {key: state[key] * float("nan")}, path)
    elif name == "missing":
        torch.save({k: v for k, v in state.items() if not k.startswith("features.0.")}, path)
    elif name == "unexpected":
        torch.save(state | {"extra.weight": torch.zeros(1)}, path)
    elif name == "shape":
        torch.save(state | {key: torch.zeros(16, 3, 5, 5)}, path)
    elif name == "other architecture":
        torch.save(trained("squeezenet1_1", 5).state_dict(), path)
    elif name == "keras":
        path = folder / "broken.h5"
        path.write_bytes(b"\x89HDF\r\n\x1a\n")
    else:
        path = folder / "broken.safetensors"
        path.write_bytes(safetensors.torch.save(state)[: {"no safetensors": 4, "cut safetensors": 9000}[name]])
    return path


@pytest.mark.parametrize(("name", "says"), [
    ("none", "model.path: .*broken.pth is not a file"),
    ("cut", "broken.pth is not a PyTorch checkpoint, or is cut short"),
    ("noise", "broken.pth is not a PyTorch checkpoint, or is cut short"),
    ("empty", "broken.pth is empty"),
    ("code", r"broken.pth holds more than tensors \(argparse.Namespace\), which is not loaded as it could run code"),
    ("module", r"broken.pth holds more than tensors \(torch.nn.modules.linear.Linear\)"),
    ("list", "broken.pth holds no mapping of names to tensors"),
    ("numbers", "broken.pth holds no mapping of names to tensors"),
    ("nan", "features.0.0.weight holds NaN or infinite values"),
    ("missing", "the checkpoint lacks features.0.0.weight, features.0.1.weight, features.0.1.bias and 2 more; is the"),
    ("unexpected", "the checkpoint has unknown extra.weight; is the architecture right"),
    ("shape", r"features.0.0.weight has shape \(16, 3, 5, 5\), the architecture's is \(16, 3, 3, 3\)"),
    ("other architecture", "the checkpoint lacks features.0.0.weight.* and has unknown features.0.weight, .* more;"),
    ("keras", "broken.h5 is an HDF5 file; for Keras' weights there are models such as vgg16_keras"),
    ("no safetensors", "broken.safetensors is not a safetensors file, or is cut short"),
    ("cut safetensors", "broken.safetensors is not a safetensors file, or is cut short"),
])  # fmt: skip
def test_a_checkpoint_that_does_not_fit_is_one_clear_line(name, says, state, tmp_path):
    with pytest.raises(rapbench.RapbenchError, match=says) as caught:
        load(broken(state, name, tmp_path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("options", "says"), [
    ({}, "needs model.architecture=NAME and model.path=FILE"),
    ({"path": "x.pth"}, "needs model.architecture=NAME and model.path=FILE"),
    ({"path": "x.pth", "architecture": "resnet51"}, "unknown model 'resnet51'"),
    ({"path": "x.pth", "architecture": "checkpoint"}, "architecture=checkpoint is not an architecture of the zoo"),
    ({"mean": [0.5]}, r"model.mean=\[0.5\]: give three values on 0..1, red first"),
    ({"std": [58.0, 57.0, 57.0]}, r"model.std=\[58.0, 57.0, 57.0\]: give three values on 0..1, red first"),
    ({"std": [0.0, 0.5, 0.5]}, "must be positive"),
    ({"crop": 0}, "must be positive"),
    ({"mean": "imagenet"}, "option mean='imagenet': Input should be a valid list"),
    ({"interpolation": "cubic"}, "option interpolation='cubic': Input should be 'bilinear', 'bicubic' or 'nearest'"),
])  # fmt: skip
def test_options_that_make_no_sense_are_one_clear_line(options, says, state, tmp_path):
    torch.save(state, tmp_path / "mine.pth")
    good = {"architecture": "mobilenet_v3_small", "path": str(tmp_path / "mine.pth")}
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.load_model("checkpoint", **(options if "path" in options or not options else good | options))


def as_torchscript(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), path)


def as_exported(path: Path, state: dict[str, torch.Tensor]) -> None:
    torch.export.save(torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),)), path)


def as_keras(path: Path, state: dict[str, torch.Tensor]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("metadata.json", "config.json", "model.weights.h5"):
            archive.writestr(name, "{}")


def as_arrays(path: Path, state: dict[str, torch.Tensor]) -> None:
    np.savez(path, **{key: tensor.numpy() for key, tensor in state.items()})


def as_bytes(data: bytes):
    return lambda path, state: path.write_bytes(data)


def as_saved(of):
    return lambda path, state: torch.save(of(state), path)


def ema(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}


KINDS = {
    "mine.pt": (as_torchscript, "is a TorchScript archive, .*; load it with torch.jit.load.* and save torch.save"),
    "mine.pt2": (as_exported, r"is an exported program \(.pt2\).*; load it with torch.export.load"),
    "mine.keras": (as_keras, r"is in the format of Keras 3 \(.keras\).*; save it with model.save\('NAME.h5'\)"),
    "mine.h5": (as_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "is an HDF5 file; for Keras' weights there are models"),
    "mine.npz": (as_arrays, "is a NumPy archive"),
    "mine.npy": (as_bytes(b"\x93NUMPY\x01\x00"), "is a NumPy array"),
    "mine.onnx": (as_bytes(b"\x08\x08\x12\x07pytorch"), "is an ONNX graph, .*; save torch.save"),
    "model.safetensors.index.json": (as_bytes(b'{"weight_map": {}}'), "is the index of a checkpoint in several files"),
    "pytorch_model.bin.index.json": (as_bytes(b'{"weight_map": {}}'), "is the index of a checkpoint in several files"),
    "saved_model.pb": (as_bytes(b"\x08\x01"), "is TensorFlow's graph"),
    "model.ckpt.data-00000-of-00001": (as_bytes(b"\x01\x02"), "is TensorFlow's checkpoint"),
    "mine.gguf": (as_bytes(b"GGUF\x03"), "is a GGUF file"),
    "mine.tar.gz": (as_bytes(b"\x1f\x8b\x08"), "is compressed with gzip; decompress it first"),
    "mine.zip": (lambda path, state: zipfile.ZipFile(path, "w").close(), "is a zip archive; unpack it first"),
    "pointer.pth": (as_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "is a Git LFS pointer"),
    "page.pth": (as_bytes(b"\n<!DOCTYPE html>"), "is a web page, not the file behind it; download it again"),
    "optimiser.pth": (as_saved(lambda state: {"optimizer": {"state": {}, "param_groups": []}, "epoch": 1}),
                      "holds an optimiser's state and no network's"),
    "adam.pth": (as_saved(lambda state: {"state": {}, "param_groups": []}), "holds an optimiser's state"),
    "gan.pth": (as_saved(lambda state: {"generator": state, "critic": state}), "under generator, critic; say"),
    "dino.pth": (as_saved(lambda state: {f"{who}.{key}": value for key, value in state.items() for who in ("a", "b")}),
                 r"holds the network 2 times, under a\. and b\.; save one"),
    "part-00001-of-00002.bin": (as_saved(lambda state: dict(list(state.items())[:9])), "one of several files"),
    "int8.pth": (as_saved(lambda state: {k: v.to(torch.int8) for k, v in state.items()}), "is int8, expected floating"),
    "sparse.pth": (as_saved(lambda state: state | {"classifier.3.weight": state["classifier.3.weight"].to_sparse()}),
                   "classifier.3.weight is no dense tensor"),
    "large.pth": (as_saved(lambda state: state | {"classifier.3.bias": torch.tensor(0.0).expand(10**12),
                                                  "classifier.3.weight": torch.tensor(0.0).expand(10**12, 1024)}),
                  "has shape .1000000000000, 1024., and not as many numbers"),
    "double.pth": (as_saved(lambda state: state | {"classifier.3.bias": torch.full((5,), 1e300, dtype=torch.float64)}),
                   "classifier.3.bias holds NaN or infinite values"),
}  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_another_kind_is_named_with_what_to_do(name, state, tmp_path):
    write, says = KINDS[name]
    write(tmp_path / name, state)
    with pytest.raises(rapbench.RapbenchError, match=rf"{name}.* {says}") as caught:
        load(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_the_format_is_told_by_content_not_by_the_name(state, tmp_path):
    safetensors.torch.save_file(state, tmp_path / "MINE.SAFETENSORS")
    safetensors.torch.save_file(state, tmp_path / "mine.bin")
    torch.save({"state_dict": state, "pytorch-lightning_version": "2"}, tmp_path / "mine.ckpt")
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    for name in ("MINE.SAFETENSORS", "mine.bin", "mine.ckpt", "old.pth"):
        torch.testing.assert_close(load(tmp_path / name).network.state_dict(), state)


def test_which_weights_were_taken_is_said_and_can_be_chosen(state, tmp_path, capsys):
    torch.save({"model_ema": ema(state), "model": state, "epoch": 3}, tmp_path / "both.pth")
    model = load(tmp_path / "both.pth")
    torch.testing.assert_close(model.network.state_dict(), state)
    assert (
        "both.pth holds the weights model_ema, model; model is taken (else: model.part=model_ema)"
        in capsys.readouterr().err
    )
    assert model.facts.source.startswith("both.pth, its model (SHA-256 ")
    chosen = load(tmp_path / "both.pth", part="model_ema")
    torch.testing.assert_close(chosen.network.state_dict(), ema(state))
    assert "its model_ema" in chosen.facts.source
    with pytest.raises(rapbench.RapbenchError, match="no weights under 'ema'; it has model_ema, model"):
        load(tmp_path / "both.pth", part="ema")


def test_what_lies_beside_the_network_is_skipped_and_said(state, tmp_path, capsys):
    """As Lightning saves a module that holds the network, a loss with weights, and a metric."""
    beside = {"criterion.weight": torch.ones(5), "metric.total": torch.tensor(3)}
    torch.save(
        {"state_dict": {f"net.backbone.{key}": value for key, value in state.items()} | beside}, tmp_path / "l.ckpt"
    )
    torch.testing.assert_close(load(tmp_path / "l.ckpt").network.state_dict(), state)
    assert "skipped what is not under net.backbone.: criterion.weight, metric.total" in capsys.readouterr().err
