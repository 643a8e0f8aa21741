"""The model zoo: a name, a network with its weights, its own preprocessing, and the facts about them."""

from typing import TYPE_CHECKING, Any

from rapbench.registry import Registry, as_stated

if TYPE_CHECKING:
    from rapbench.zoo._model import ZooModel

models: Registry[dict[str, Any]] = Registry("model", "rapbench.zoo", as_stated)


def load_model(name: str, **options: Any) -> "ZooModel":
    """Return a zoo model in eval mode, on the CPU: (N, 3, H, W) preprocessed -> (N, classes) logits.

    name: an entry of the zoo, any of torchvision's classification models, or timm/<name>. options: the entry's own.
    `model.transform(pil_image)` gives its (3, H, W) float32 input. Raises RapbenchError for an unknown name (it lists
    the known ones) or option, or when the weights cannot be fetched.
    """
    entry = models[name]
    checked = entry.check(options)
    model: ZooModel = entry.function(**checked)
    model.entry, model.options = entry, checked  # of a model around another's, the outer
    return model
