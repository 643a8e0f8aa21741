"""Attribution methods: model, preprocessed images and targets in, relevance of each input element out."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rapbench.errors import RapbenchError
from rapbench.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

methods = Registry("method", "rapbench.methods")


def attribute(
    model: "nn.Module",
    inputs: "Tensor",
    targets: "Tensor | Sequence[int] | int",
    method: str = "rap",
    *,
    image_ids: Sequence[str] | None = None,
    seed: int = 0,
    **options: Any,
) -> "Tensor":
    """Return the relevance of each input element for the target logits, shaped like `inputs`.

    model: any nn.Module from (N, C, ...) to (N, classes) logits; it comes back as it was. inputs: preprocessed,
    floating point. targets: (N,) class indices, or one for all. image_ids, seed: what random draws hang on; without
    ids they hang on the inputs' bytes. options: the method's own (`rapbench list` shows them).
    Raises RapbenchError for an unknown method or option, a target out of range, a model the method cannot handle, or a
    method that returns another shape.
    """
    import torch

    entry = methods[method]
    options = entry.check(options)
    if not inputs.is_floating_point() or inputs.dim() < 2 or not len(inputs):
        raise RapbenchError(f"inputs must be a non-empty floating-point batch (N, ...), got {_describe(inputs)}")
    targets = torch.as_tensor(targets, device=inputs.device)
    if targets.dim() == 0:
        targets = targets.expand(len(inputs))
    if targets.shape != inputs.shape[:1] or targets.is_floating_point():
        raise RapbenchError(f"targets must be {len(inputs)} class indices, got {_describe(targets)}")
    if targets.min() < 0:
        raise RapbenchError(f"target {int(targets.min())} is out of range: class indices start at 0")
    if entry.facts.get("random"):
        options["seeds"] = _seeds(inputs, image_ids, seed, method)
    with torch.inference_mode(False), at_rest(model):  # methods need gradients, wherever they are called
        inputs, targets = (tensor.clone() if tensor.is_inference() else tensor.detach() for tensor in (inputs, targets))
        relevance = entry.function(model, inputs, targets.long(), **options)
    if not isinstance(relevance, torch.Tensor) or relevance.shape != inputs.shape:
        got = _describe(relevance) if isinstance(relevance, torch.Tensor) else type(relevance).__name__
        raise RapbenchError(f"method {method!r} must return relevance of shape {tuple(inputs.shape)}, returned {got}")
    return relevance.detach()


@contextmanager
def at_rest(model: "nn.Module") -> Iterator[None]:
    """Put every module into eval mode, and each back into its own mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _seeds(inputs: "Tensor", image_ids: Sequence[str] | None, seed: int, method: str) -> "Tensor":
    import hashlib

    import torch

    from rapbench.draws import seed_of

    if image_ids is None:
        image_ids = [hashlib.sha256(image.cpu().contiguous().numpy().tobytes()).hexdigest() for image in inputs]
    if len(image_ids) != len(inputs):
        raise RapbenchError(f"{len(image_ids)} image_ids for {len(inputs)} inputs")
    return torch.tensor([seed_of(seed, image_id, method) for image_id in image_ids], device=inputs.device)


def _describe(tensor: "Tensor") -> str:
    return f"{tensor.dtype} of shape {tuple(tensor.shape)}"
