"""The TensorFlow.js layers format."""

import json
from pathlib import Path

import numpy as np
import pytest

import rapbench
from rapbench.zoo.weights.tfjs import by_layer, read_weights


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


def test_layers_have_their_weights_in_keras_order():
    names = ["b/moving_variance", "b/beta", "a/bias", "b/gamma", "a/kernel", "b/moving_mean"]
    layers = by_layer({name: np.array(number) for number, name in enumerate(names)})
    assert {name: [int(weight) for weight in weights] for name, weights in layers.items()} == {
        "a": [4, 2],
        "b": [3, 1, 5, 0],
    }
