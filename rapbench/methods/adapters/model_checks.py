"""What a model must be for any method: a module from a batch of images to logits that are the same each time."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.core.tensors import what_is
from rapbench.core.tolerance import FEW, difference, full_precision, tolerance
from rapbench.methods.adapters.arguments import refuse_not_finite
from rapbench.model.makeup import kept
from rapbench.model.modules import WRAP


def together(model: nn.Module, inputs: Tensor) -> tuple[nn.Module, Tensor]:
    """Return a model and its inputs of one type, float32 at least, and on one device, the model's.

    A model of float16 or bfloat16 is copied to float32: RAP's divisors and small relevance are beyond their range.
    """
    tensors = [*model.parameters(), *model.buffers()]
    floats = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    if floats & {torch.float16, torch.bfloat16}:
        try:
            model = copy.deepcopy(model).float()
        except Exception as error:
            if out_of_memory(error):
                raise
            raise RapbenchError(f"the model is of {_named(floats)}: give it in float32, model.float()") from error
        floats = {torch.float32}
    parameters = {parameter.dtype for parameter in model.parameters() if parameter.is_floating_point()}
    wanted = parameters or floats
    if len(wanted) == 1 and wanted <= {torch.float32, torch.float64}:
        inputs = inputs.to(wanted.pop())
    devices = {tensor.device for tensor in tensors}
    if len(devices) == 1:
        inputs = inputs.to(devices.pop())
    return model, inputs


@dataclass(frozen=True)
class Answer:
    """What a model said when it was asked first."""

    classes: int
    shaped = False


def classes_of(model: nn.Module, inputs: Tensor) -> int:
    """Return how many classes a model in eval mode tells apart, once it has answered twice with the same logits.

    inputs: (N, ...). Raises RapbenchError when they are not finite, when it fails, gives no logits, (N, classes), gives
    others the second time or in another batch, or changes at each call.
    """
    return kept(model, inputs, Answer, lambda: _ask(model, inputs)).classes


def unbatched(model: nn.Module, inputs: Tensor) -> bool:
    """Whether inputs look like one image: they have one dimension less than all the model's convolutions take."""
    takes = {len(module.kernel_size) + 2 for module in model.modules() if isinstance(module, nn.modules.conv._ConvNd)}
    return takes == {inputs.dim() + 1}


def _ask(model: nn.Module, inputs: Tensor) -> Answer:
    refuse_not_finite(inputs)
    name = type(model).__name__
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    with torch.no_grad(), full_precision():
        some = inputs[:FEW]
        try:
            first = _logits(model, some, inputs)
        except _Fails:
            first = _logits(model, inputs, inputs)  # it may take batches of one size
            some = inputs
        alike = torch.empty_like(some).copy_(some[:1].expand_as(some))
        after_one = _state(model)
        second = _logits(model, alike, inputs)
        after_two = _state(model)
        if _apart(first[:1], second[:1]):
            if _apart(_logits(model, some, inputs), first):
                raise RapbenchError(
                    f"{name} gives other logits at each call, in eval mode too; switch off what is random in "
                    "its forward: F.dropout(x, training=self.training)"
                )
            raise _depends_on_batch(name)
        if len(some) == 1:
            _see_beside_another(model, some, first)
        changed = [key for key in after_two if after_one.get(key) != after_two[key]]
        if changed:
            _logits(model, alike, inputs)
            after_three = _state(model)
            changed = [key for key in changed if after_three.get(key) != after_two[key]]
        if changed:
            for buffer, value in buffers:
                buffer.copy_(value)
            raise RapbenchError(
                f"{name} changes {changed[0]} at each call, in eval mode too, so that an answer may depend on what was "
                "run before; do that in training mode only"
            )
    return Answer(first.shape[1])


class _Fails(RapbenchError):
    """The model raised an exception."""


def _logits(model: nn.Module, batch: Tensor, inputs: Tensor) -> Tensor:
    """Return (N, classes) logits of a batch; RapbenchError for any other answer. inputs: what the user gave."""
    name, count = type(model).__name__, len(batch)
    axis = "; one image needs a batch axis, inputs[None]" if unbatched(model, inputs) else ""
    try:
        logits = model(batch.clone())
    except Exception as error:
        if out_of_memory(error) or isinstance(error, RapbenchError):
            raise
        lines = str(error).strip().splitlines()
        reason = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
        raise _Fails(f"{name} fails on inputs that are {what_is(inputs)} ({reason}){axis}") from error
    if not isinstance(logits, Tensor):
        if isinstance(logits, Mapping):
            what = f"a {type(logits).__name__} with {', '.join(map(str, logits))}"
        elif isinstance(logits, (tuple, list)):
            what = f"a {type(logits).__name__} of {len(logits)}"
        else:
            what = f"a {type(logits).__name__}"
        raise RapbenchError(f"{name} returns {what}; {WRAP} returns the logits alone, (N, classes)")
    if logits.dim() != 2 or logits.shape[0] != count or not logits.shape[1] or not logits.is_floating_point():
        todo = "returns logits of that shape"
        if logits.dim() > 2 and logits.shape[2:].numel() == 1:
            todo = "flattens them, logits.flatten(1)"
        elif logits.shape == (count,):
            todo = "gives one logit a column, logits[:, None]"
        raise RapbenchError(
            f"the model must give (N, classes) logits, {name} gives {what_is(logits)} for {count} inputs; {WRAP} "
            f"{todo}{axis}"
        )
    if not logits.isfinite().all():
        raise RapbenchError(f"{name} gives NaN or infinite logits for inputs between {batch.min():.3g} and "
                            f"{batch.max():.3g}; check its weights and the preprocessing")  # fmt: skip
    return logits


def _apart(one: Tensor, other: Tensor) -> bool:
    return difference(one, other) > tolerance(other)


def _see_beside_another(model: nn.Module, image: Tensor, alone: Tensor) -> None:
    """Raise RapbenchError when one image's logits change beside another; a model for one image at a time may fail."""
    try:
        beside = _logits(model, torch.cat([image, image.flip(-1) / 2]), image)
    except RapbenchError:
        return
    if _apart(beside[:1], alone):
        raise _depends_on_batch(type(model).__name__)


def _depends_on_batch(name: str) -> RapbenchError:
    return RapbenchError(
        f"{name}'s logits of an image depend on the other images in its batch; a batch norm needs running statistics "
        "(track_running_stats=True), and nothing may be computed across the batch"
    )


def _state(model: nn.Module) -> dict[str, Any]:
    """Return what a forward pass should leave alone: tensors and their versions, and plain attributes."""
    found: dict[str, Any] = {}
    for place, module in model.named_modules():
        start = f"{place}." if place else ""
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                found[start + key] = (id(tensor), 0 if tensor.is_inference() else tensor._version)
        for key, value in vars(module).items():
            if isinstance(value, (bool, int, float, str)):
                found[start + key] = repr(value)
    return found


def _named(dtypes: set[torch.dtype]) -> str:
    return " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
