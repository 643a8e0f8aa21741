"""Whether the gradient that autograd gives is the gradient of what the model computes.

`detach`, `no_grad` and `.data` in a forward, and backward functions and hooks of one's own, leave the logits as they
are and change the gradient without a word. Where a model has any, its gradient is compared with differences.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from rapbench.core.errors import RapbenchError
from rapbench.core.limits import out_of_memory
from rapbench.core.tolerance import FEW, full_precision
from rapbench.model.makeup import kept

STEP = 1e-6  # of the differences, in float64
ERROR = 1e-3  # what a kink within a step, or rounding, may make of it


@dataclass(frozen=True)
class Checked:
    """A model whose gradient is its own."""

    shaped = False


def check_gradient(model: nn.Module, inputs: Tensor) -> None:
    """Raise RapbenchError when autograd's gradient is not that of the logits; once a model. inputs: (N, ...)."""
    kept(model, inputs, Checked, lambda: _checked(model, inputs))


def _checked(model: nn.Module, inputs: Tensor) -> Checked:
    name = type(model).__name__
    x = _some(model, inputs).detach().clone().requires_grad_()
    with torch.enable_grad():
        try:
            reason = _followed(model, x)
        except Exception as error:
            if out_of_memory(error):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RapbenchError(f"{name} has no gradient with respect to its inputs ({lines[0]}); {_MEND}") from error
    hooks = [name for name, module in model.named_modules() if module._backward_hooks or module._backward_pre_hooks]
    if hooks:
        reason = f"a backward hook at {hooks[0] or 'the top level'}"
    if reason and not _agrees(model, x.detach()):
        raise RapbenchError(f"the gradient of {name} is not that of its logits, because of {reason}; {_MEND}")
    return Checked()


def _some(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return a few inputs, or all where the model takes batches of one size."""
    with torch.no_grad():
        try:
            model(inputs[:FEW].clone())
        except Exception as error:
            if out_of_memory(error):
                raise
            return inputs
    return inputs[:FEW]


def _followed(model: nn.Module, x: Tensor) -> str:
    """Take the gradient at x, (N, ...), and return what may keep it from being that of the logits."""
    with _Cuts() as cuts:
        logits = model(x.clone())
    reason = cuts.found or _own_function(logits)
    torch.autograd.grad(logits.sum(), x)
    return reason


_MEND = "take detach, no_grad, .data and backward functions or hooks of your own out of its forward"


class _Cuts(TorchFunctionMode):
    """Notices the first operation whose result has no gradient though what it reads has one."""

    found = ""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        tracked = any(tensor.requires_grad for tensor in given)  # before it is called: detach_ changes that
        result = func(*args, **kwargs)
        called = getattr(func, "__name__", str(func))
        if tracked and not self.found:
            lost = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor) and leaf.is_floating_point()
                    and not leaf.requires_grad]  # fmt: skip
            if lost or called in ("register_hook", "requires_grad_", "__set__"):
                without = "" if torch.is_grad_enabled() else "no_grad around "
                self.found = without + getattr(getattr(func, "__self__", None), "__name__", called)
        return result


def _own_function(logits: Tensor) -> str:
    """Return the name of a torch.autograd.Function of the user's in a graph."""
    seen, waiting = set(), [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if isinstance(node, torch.autograd.function.BackwardCFunction):
            return type(node).__name__.removesuffix("Backward")
        waiting += [following for following, _ in node.next_functions]
    return ""


def _agrees(model: nn.Module, x: Tensor) -> bool:
    """Whether gradient and differences agree in a random direction, near x, (N, ...); False if that cannot be seen."""
    generator = torch.Generator().manual_seed(0)

    def drawn(shape: Any) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(x.device)

    spread = float(x.double().std()) or 1.0
    at = x.double() + 1e-3 * spread * drawn(x.shape)  # off the kinks at 0
    direction = drawn(x.shape)
    try:
        exact = copy.deepcopy(model).double()
        with torch.enable_grad(), full_precision():
            at.requires_grad_()
            logits = exact(at.clone())
            weights = drawn(logits.shape)
            (gradient,) = torch.autograd.grad((logits * weights).sum(), at)
        with torch.no_grad():
            step = STEP * spread
            ahead, back = (exact(at + sign * step * direction) for sign in (1, -1))
    except Exception as error:
        if out_of_memory(error):
            raise
        return False
    rise = ((ahead - back) * weights).flatten(1).sum(1) / (2 * step)
    claimed = (gradient * direction).flatten(1).sum(1)
    scale = torch.maximum(gradient.flatten(1).norm(dim=1), rise.abs())
    return bool(((rise - claimed).abs() <= ERROR * scale).all())
