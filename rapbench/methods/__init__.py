"""Attribution methods: model, preprocessed images and targets in, relevance of each input element out."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.facts import MethodFacts, facts_of
from rapbench.registry import Entry, Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

methods: Registry[MethodFacts] = Registry("method", "rapbench.methods", facts_of)


def register_method(name: str, **facts: Any) -> "Callable[[Callable[..., Any]], Callable[..., Any]]":
    """Return a decorator that registers a function as a method, under a name for the command line and the tables.

    Parameters
    ----------
    name : str
        The name; with the function's module it is `module:name` on the command line.
    facts
        Metadata of the method, see `MethodFacts`.

    Returns
    -------
    callable
        Takes the function of (model, inputs, targets) and returns it unchanged.

    Raises
    ------
    RapbenchError
        For an unknown or invalid keyword, for a function that is no method, and for a name that is taken.

    Examples
    --------
    >>> @rapbench.register_method("signed", signs=("positive", "negative"), passes=2)
    ... def signed(model, inputs, targets, *, power: int = 1):
    ...     return rapbench.attribute(model, inputs, targets, "gradient_x_input") ** power
    """
    return methods.register(name, **facts)


def attribute(
    model: "nn.Module",
    inputs: "Tensor | np.ndarray | Sequence[Tensor]",
    targets: "Tensor | np.ndarray | Sequence[int] | int",
    method: "str | Entry[MethodFacts] | Callable[..., Tensor]" = "rap",
    *,
    image_ids: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> "Tensor":
    """Return the relevance of each input element for the target logits, shaped like `inputs`, on their device.

    Parameters
    ----------
    model : nn.Module
        From (N, C, ...) to (N, classes) logits, the same at each call. It is not changed. Wrappers of torch.compile and
        DataParallel are removed.
    inputs : Tensor, array, or list of them, (N, C, ...)
        Preprocessed, floating point, finite. They are converted to the model's type and device. float16 and bfloat16
        models are computed in float32, on a copy.
    targets : int, or Tensor, array or list of N
        Class indices, or one for all.
    method : str, entry of a registry, or function
        A registered method's name (`rapbench list` shows them), or a function of (model, inputs, targets), with its
        options after a `*`.
    image_ids : list of N
        Random numbers are seeded by these and `seed`. By default they are seeded by the inputs' bytes and `seed`.
    seed : int
        Seeds random numbers.
    options
        The method's own.

    Returns
    -------
    Tensor, shaped like `inputs`
        Of the type that it was computed in, float32 or float64.

    Raises
    ------
    RapbenchError
        For an unknown method or option; for invalid inputs or targets; for a model that does not give logits, gives
        other logits at each call, or is unsupported by the method; for a method that returns another shape.

    Examples
    --------
    >>> relevance = rapbench.attribute(network, images, targets=[243], method="rap")  # images: (1, 3, 224, 224)
    >>> heatmap = relevance.sum(1)
    """
    import torch

    from rapbench.core.tensors import what_is
    from rapbench.methods.adapters.arguments import as_inputs, as_targets, refuse_values
    from rapbench.methods.adapters.model_checks import classes_of, together, unbatched
    from rapbench.model.modules import at_rest, explainable

    entry = method_of(method)
    options = entry.check(options)
    model = explainable(model)
    with torch.inference_mode(False), at_rest(model):  # methods need gradients, wherever they are called
        given = as_inputs(inputs)
        with torch.autocast(given.device.type, enabled=False):
            model, batch = together(model, given)
            looks = entry.facts.looks_at_model or unbatched(model, batch)
            classes = classes_of(model, batch) if looks else None
            indices = as_targets(targets, batch)
            refuse_values(batch, indices, classes)
            if entry.facts.random:
                options["seeds"] = _seeds(batch, image_ids, seed, entry.name)
            relevance = entry.function(model, batch.clone(), indices, **options)
    if not isinstance(relevance, torch.Tensor) or relevance.shape != batch.shape:
        got = what_is(relevance)
        raise RapbenchError(
            f"method {entry.name!r} must return relevance of shape {tuple(batch.shape)}, returned {got}"
        )
    return relevance.detach().to(given.device)


def method_of(method: "str | Entry[MethodFacts] | Callable[..., Tensor]") -> Entry[MethodFacts]:
    """Return a method as the registry holds it; a function that is not registered goes by its name, with no facts.

    Raises RapbenchError for an unknown name, and a function that cannot be called as a method.
    """
    if isinstance(method, str):
        return methods[method]
    if isinstance(method, Entry):
        return method
    name = getattr(method, "__name__", type(method).__name__)
    return Entry("method", name, method, facts_of(name, method, {}))


def _seeds(inputs: "Tensor", image_ids: Sequence[str] | None, seed: int, method: str) -> "Tensor":
    import hashlib

    import torch

    from rapbench.core.random import seed_of

    if image_ids is None:
        image_ids = [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).hexdigest() for image in inputs]
    if len(image_ids) != len(inputs):
        raise RapbenchError(f"{len(image_ids)} image_ids for {len(inputs)} inputs")
    return torch.tensor([seed_of(seed, image_id, method) for image_id in image_ids], device=inputs.device)
