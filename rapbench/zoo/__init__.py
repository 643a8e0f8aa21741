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
    """Return a model in eval mode, on the CPU.

    Parameters
    ----------
    name : str
        An entry of the zoo, any of torchvision's classification models, timm/<name>, or your own module:name.
    options
        Options of that entry; `rapbench list models NAME` shows them.

    Returns
    -------
    Model
        From preprocessed inputs (N, C, *space) to (N, classes) logits. Its `transform` makes a (C, *space) float32
        input of a PIL image.

    Raises
    ------
    RapbenchError
        For an unknown name (the message lists the known ones) or option, or if the weights cannot be downloaded.

    Examples
    --------
    >>> model = rapbench.load_model("efficientnet_lite0")
    >>> x = model.transform(Image.open("dog.jpg"))  # (3, 224, 224)
    """
    entry = models[name]
    checked = entry.check(options)
    model: Model = entry.function(**checked)
    model.entry, model.options = entry, checked  # of a model around another's, the outer
    return model
