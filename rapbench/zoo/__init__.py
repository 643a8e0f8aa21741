"""The model zoo: a name, a network with its weights, its own preprocessing, and the facts about them."""

from typing import TYPE_CHECKING

from rapbench.registry import Registry

if TYPE_CHECKING:
    from rapbench.zoo._model import ZooModel

models = Registry("model", "rapbench.zoo")


def load_model(name: str) -> "ZooModel":
    """Return a zoo model in eval mode, on the CPU: (N, 3, H, W) preprocessed -> (N, classes) logits.

    `model.transform(pil_image)` gives its (3, H, W) float32 input. Raises RapbenchError for an unknown name (it lists
    the known ones) or when the weights cannot be fetched.
    """
    return models[name].function()
