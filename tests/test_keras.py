"""Keras' networks: the weights' formats, and that every weight lands where Keras would have it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import rapbench
from rapbench.zoo._tfjs import read_weights
from rapbench.zoo.resnet50_keras import keras_resnet50, load_keras_weights


def write_tfjs(folder: Path, weights: dict[str, np.ndarray], shards: int) -> Path:
    """Write the TensorFlow.js layers format, cut into shards at places that split weights."""
    data = b"".join(array.astype("<f4").tobytes() for array in weights.values())
    cut = -(-len(data) // shards)
    names = [f"group1-shard{i + 1}of{shards}.bin" for i in range(shards)]
    for i, name in enumerate(names):
        (folder / name).write_bytes(data[i * cut : (i + 1) * cut])
    manifest = [{"name": n, "shape": list(a.shape), "dtype": "float32"} for n, a in weights.items()]
    path = folder / "model.json"
    path.write_text(json.dumps({"modelTopology": {}, "weightsManifest": [{"paths": names, "weights": manifest}]}))
    return path


def test_tensorflow_js_weights_come_back_as_written(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"a/kernel": (3, 3, 2, 5), "a/bias": (5,), "b/gamma": (1,)}
    weights = {name: rng.normal(size=shape).astype("f4") for name, shape in shapes.items()}
    path = write_tfjs(tmp_path, weights, 3)
    read = read_weights(path)
    assert list(read) == list(weights)
    assert all(np.array_equal(read[name], weights[name]) for name in weights)
    shard = tmp_path / "group1-shard3of3.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(rapbench.RapbenchError, match="cut short"):
        read_weights(path)
    shard.unlink()
    with pytest.raises(rapbench.RapbenchError, match=r"lacks group1-shard3of3.bin"):
        read_weights(path)


def test_keras_weights_land_in_their_layers():
    """A convolution of the loaded network equals a slow NumPy convolution with the Keras kernel (h, w, in, out)."""
    network = keras_resnet50()
    rng = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}

    def norm(name: str, channels: int) -> None:
        for field in ("gamma", "beta", "moving_mean", "moving_variance"):
            weights[f"{name}/{field}"] = rng.uniform(0.5, 1.5, channels).astype("f4")

    def conv(name: str, norm_name: str, h: int, before: int, after: int) -> None:
        weights[f"{name}/kernel"] = rng.normal(size=(h, h, before, after)).astype("f4")
        weights[f"{name}/bias"] = rng.normal(size=after).astype("f4")
        norm(norm_name, after)

    conv("conv1", "bn_conv1", 7, 3, 64)
    before = 64
    for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=2):
        for letter in "abcdef"[:blocks]:
            for branch, h, i, o in (("2a", 1, before, width), ("2b", 3, width, width), ("2c", 1, width, 4 * width)):
                conv(f"res{stage}{letter}_branch{branch}", f"bn{stage}{letter}_branch{branch}", h, i, o)
            if letter == "a":
                conv(f"res{stage}a_branch1", f"bn{stage}a_branch1", 1, before, 4 * width)
            before = 4 * width
    weights["fc1000/kernel"] = rng.normal(size=(2048, 1000)).astype("f4")
    weights["fc1000/bias"] = rng.normal(size=1000).astype("f4")
    load_keras_weights(network, weights)

    x = rng.normal(size=(9, 9, 3)).astype("f4")
    kernel, bias = weights["conv1/kernel"], weights["conv1/bias"]
    padded = np.pad(x, ((3, 3), (3, 3), (0, 0)))
    want = np.array([[np.einsum("hwi,hwio->o", padded[r : r + 7, c : c + 7], kernel) + bias
                      for c in range(0, 9, 2)] for r in range(0, 9, 2)])  # fmt: skip
    bn = [weights[f"bn_conv1/{field}"] for field in ("gamma", "beta", "moving_mean", "moving_variance")]
    want = (want - bn[2]) / np.sqrt(bn[3] + 1.001e-5) * bn[0] + bn[1]
    with torch.no_grad():
        got = network.bn1(network.conv1(torch.tensor(x).permute(2, 0, 1)[None]))[0].permute(1, 2, 0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    block = network.layer3[0]
    assert (block.conv1.stride, block.conv2.stride, block.downsample[0].stride) == ((2, 2), (1, 1), (2, 2))
    assert torch.equal(network.layer4[2].conv2.bias, torch.tensor(weights["res5c_branch2b/bias"]))
    assert torch.equal(network.fc.weight, torch.tensor(weights["fc1000/kernel"].T))


def test_every_keras_weight_is_used():
    names: list[str] = []

    class Recording(dict):
        def __getitem__(self, name: str) -> Any:
            names.append(name)
            return super().__getitem__(name)

    network = keras_resnet50()
    with pytest.raises(KeyError, match="conv1/kernel"):
        load_keras_weights(network, Recording())
    assert len([p for p in network.state_dict() if "num_batches" not in p]) == 320
