"""Read the TensorFlow.js layers format: a model.json that names the weights, and shards that hold their bytes."""

import json
from pathlib import Path

import numpy as np

from rapbench.core.errors import RapbenchError

FIELDS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance")


def read_weights(model_json: Path) -> dict[str, np.ndarray]:
    """Return the weights by name, as float32 arrays of the shapes that the manifest states.

    Raises RapbenchError when a shard is missing or its bytes do not add up to the shapes.
    """
    weights: dict[str, np.ndarray] = {}
    for group in json.loads(model_json.read_text(encoding="utf-8"))["weightsManifest"]:
        shards = [model_json.parent / path for path in group["paths"]]
        if missing := [shard.name for shard in shards if not shard.is_file()]:
            raise RapbenchError(f"{model_json.parent} lacks {', '.join(missing)}; delete the folder and run again")
        data = b"".join(shard.read_bytes() for shard in shards)
        offset = 0
        for entry in group["weights"]:
            if entry["dtype"] != "float32" or "quantization" in entry:
                raise RapbenchError(f"{model_json}: weight {entry['name']} is not plain float32")
            count = int(np.prod(entry["shape"]))
            if offset + 4 * count > len(data):
                raise RapbenchError(f"{model_json.parent} is cut short; delete the folder and run again")
            weights[entry["name"]] = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
            offset += 4 * count
        if offset != len(data):
            raise RapbenchError(f"{model_json.parent} has bytes that no weight claims; delete the folder and run again")
    return weights


def by_layer(weights: dict[str, np.ndarray]) -> dict[str, list[np.ndarray]]:
    """Return each layer's weights in the order of Keras' own files; names are layer/field."""
    layers: dict[str, dict[str, np.ndarray]] = {}
    for name, array in weights.items():
        layer, field = name.rsplit("/", 1)
        layers.setdefault(layer, {})[field] = array
    return {layer: [fields[field] for field in FIELDS if field in fields] for layer, fields in layers.items()}
