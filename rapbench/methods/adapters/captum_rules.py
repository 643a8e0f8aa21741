"""Captum's rules of LRP, which add up on their way what each hands down, so that their sum can be checked.

Per call, with R the relevance of a module's outputs z and b what it gives for inputs of zero::

    handed to its inputs = sum_j R_j (z_j - b_j) / (z_j + epsilon sign(z_j))

so the input's relevance must be that of the logit less what every module has kept: R less what is handed.
"""

from collections.abc import Callable
from typing import Any

import torch
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule, PropagationRule
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance.cancellation import LOST, cancels
from rapbench.relevance.linear import LINEAR, per_channel
from rapbench.relevance.operations import NORMS, PADS, Pad

ROUNDING = 100  # times what the type rounds 1 to, of the largest relevance; measured on ResNet-50: 1


class Ledger:
    """What a call's rules keep, over the whole batch, of a relevance that starts as 1 at each target.

    largest: the most relevance, positive and negative added up, in any module.
    """

    def __init__(self) -> None:
        self.kept = self.largest = 0.0

    def add(self, relevance: Tensor, ratio: Tensor, outputs: Tensor, constant: Tensor | None) -> None:
        """Take down a module: R, R / (z + epsilon sign(z)), z, shaped alike, and b or None for 0."""
        handed = ratio * (outputs if constant is None else outputs - constant)
        self.kept += _sum(relevance) - _sum(handed)
        self.largest = max(self.largest, _sum(relevance.abs()), _sum(handed.abs()))

    def check(self, relevance: Tensor, method: str) -> None:
        """Raise RapbenchError where the input's relevance, (N, ...), is not what is left of N but for rounding."""
        promised, found = len(relevance) - self.kept, _sum(relevance)
        scale = max(self.largest, _sum(relevance.abs()))
        eps = torch.finfo(relevance.dtype).eps
        if not scale / len(relevance) * eps <= LOST:  # NaN too
            raise cancels(method, relevance.dtype)
        if abs(found - promised) > ROUNDING * eps * scale:
            raise RapbenchError(
                f"{method}: {found:.6g} of the logits arrives at the images and {promised:.6g} is what Captum's rules "
                "hand down: relevance is counted twice or lost on the way; choose lrp_epsilon"
            )


class _Counted(PropagationRule):  # type: ignore[misc]  # Captum has no types
    """A rule that keeps a ledger; the first base of each, before Captum's class."""

    ledger: Ledger
    constant: Tensor | None

    def forward_hook(self, module: nn.Module, inputs: Any, outputs: Tensor) -> Any:
        """Hang Captum's hooks on the tensors of a module, whose weights are the rule's by now."""
        if not all(tensor.requires_grad for tensor in inputs):
            raise RapbenchError(
                f"captum_lrp: {type(module).__name__} reads a tensor that does not depend on the image, which Captum's "
                "rules do not know; choose another method for this model"
            )
        self.constant = _constant(module, inputs, outputs)
        return super().forward_hook(module, inputs, outputs)

    def _create_backward_hook_output(self, outputs: Tensor) -> Callable[[Tensor], Tensor]:
        hook, constant = super()._create_backward_hook_output(outputs), self.constant

        def counted(relevance: Tensor) -> Tensor:
            ratio: Tensor = hook(relevance)
            self.ledger.add(relevance, ratio, outputs, constant)
            return ratio

        return counted


class Epsilon(_Counted, EpsilonRule):  # type: ignore[misc]
    """Captum's epsilon rule."""

    def __init__(self, ledger: Ledger):
        super().__init__()
        self.ledger = ledger


class Gamma(_Counted, GammaRule):  # type: ignore[misc]
    """Captum's gamma rule."""

    def __init__(self, ledger: Ledger, gamma: float):
        super().__init__(gamma)
        self.ledger = ledger


class Alpha1Beta0(_Counted, Alpha1_Beta0_Rule):  # type: ignore[misc]
    """Captum's alpha1-beta0 rule."""

    def __init__(self, ledger: Ledger):
        super().__init__()
        self.ledger = ledger


def _constant(module: nn.Module, inputs: tuple[Tensor, ...], outputs: Tensor) -> Tensor | None:
    """Return what an affine module adds to what it reads, as outputs can be reduced by it; None where that is 0."""
    if isinstance(module, LINEAR):
        bias: Tensor | None = module.bias
        return None if bias is None else per_channel(module, bias.detach(), outputs)
    if isinstance(module, (*NORMS, Pad, *PADS)):
        with torch.no_grad():
            added: Tensor = module.forward(*(torch.zeros_like(tensor[:1]) for tensor in inputs))
        return added
    return None


def _sum(x: Tensor) -> float:
    return float(x.sum(dtype=torch.float64))
