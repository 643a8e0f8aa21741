"""The model zoo: a name, a network with its weights, its own preprocessing, and the facts about them.

A function or class of a user's own module, `my_module:build`, is named without being registered. It returns an
nn.Module, for which mean, std, size and class_names are settings, or a `rapbench.Model`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from rapbench.registry import Registry, as_stated

if TYPE_CHECKING:
    from rapbench.model import Model


def _outside(place: str, function: Callable[..., Any]) -> Callable[..., Any]:
    from rapbench.zoo.adapters.user_function import building

    return building(place, function)


models: Registry[dict[str, Any]] = Registry("model", "rapbench.zoo", as_stated, outside=_outside)


def load_model(name: str, **options: Any) -> "Model":
    """Return a model in eval mode, on the CPU: (N, C, *space) preprocessed -> (N, classes) logits.

    name: an entry of the zoo, any of torchvision's classification models, timm/<name>, or a user's own module:name.
    options: the entry's own.
    `model.transform(pil_image)` gives its (C, *space) float32 input. Raises RapbenchError for an unknown name (it lists
    the known ones) or option, or when the weights cannot be fetched.
    """
    entry = models[name]
    checked = entry.check(options)
    model: Model = entry.function(**checked)
    model.entry, model.options = entry, checked  # of a model around another's, the outer
    return model
