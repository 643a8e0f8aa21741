"""Attribution methods: model, preprocessed images and targets in, relevance of each input element out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rapbench.errors import RapbenchError
from rapbench.registry import Registry

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

methods = Registry("method", "rapbench.methods")


def attribute(
    model: "nn.Module",
    inputs: "Tensor | np.ndarray | Sequence[Tensor]",
    targets: "Tensor | np.ndarray | Sequence[int] | int",
    method: str = "rap",
    *,
    image_ids: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> "Tensor":
    """Return the relevance of each input element for the target logits, shaped like `inputs`, on their device.

    Parameters
    ----------
    model : nn.Module
        From (N, C, ...) to (N, classes) logits, the same each time; it comes back as it was. Wrappers of torch.compile
        and DataParallel are taken off.
    inputs : Tensor, array, or list of them, (N, C, ...)
        Preprocessed, floating point, finite. They are computed with in the model's type and on its device; float16 and
        bfloat16 in float32, on a copy of such a model.
    targets : int, or Tensor, array or list of N
        Class indices, or one for all.
    method : str
        A registered method (`rapbench list` shows them).
    image_ids : list of N
        What seeds random draws, with `seed`; without them the inputs' bytes do.
    seed : int
        Another one gives other draws.
    options
        The method's own.

    Returns
    -------
    Tensor, shaped like `inputs`
        Of the type that it was computed in, float32 or float64.

    Raises
    ------
    RapbenchError
        For an unknown method or option, inputs or targets that have no plain meaning, a model that gives no logits or
        not the same each time, one that the method cannot handle, or a method that returns another shape.
    """
    import torch

    from rapbench.methods._arguments import as_inputs, as_targets, refuse_not_finite
    from rapbench.methods._model import classes_of, together, unbatched
    from rapbench.modules import at_rest, explainable
    from rapbench.tensors import what_is

    entry = methods[method]
    options = entry.check(options)
    model = explainable(model)
    with torch.inference_mode(False), at_rest(model):  # methods need gradients, wherever they are called
        given = as_inputs(inputs)
        with torch.autocast(given.device.type, enabled=False):
            model, batch = together(model, given)
            refuse_not_finite(batch)
            looks = entry.facts.get("looks_at_model", True) or unbatched(model, batch)
            classes = classes_of(model, batch) if looks else None
            indices = as_targets(targets, batch, classes)
            if entry.facts.get("random"):
                options["seeds"] = _seeds(batch, image_ids, seed, method)
            relevance = entry.function(model, batch.clone(), indices, **options)
    if not isinstance(relevance, torch.Tensor) or relevance.shape != batch.shape:
        got = what_is(relevance)
        raise RapbenchError(f"method {method!r} must return relevance of shape {tuple(batch.shape)}, returned {got}")
    return relevance.detach().to(given.device)


def _seeds(inputs: "Tensor", image_ids: Sequence[str] | None, seed: int, method: str) -> "Tensor":
    import hashlib

    import torch

    from rapbench.draws import seed_of

    if image_ids is None:
        image_ids = [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).hexdigest() for image in inputs]
    if len(image_ids) != len(inputs):
        raise RapbenchError(f"{len(image_ids)} image_ids for {len(inputs)} inputs")
    return torch.tensor([seed_of(seed, image_id, method) for image_id in image_ids], device=inputs.device)
