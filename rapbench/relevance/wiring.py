"""Rules of what joins or passes signals: activations, additions, concatenations."""

import torch
from torch import Tensor, nn

from rapbench.relevance.canonical import Add, Cat
from rapbench.relevance.rules import Step, rule


@rule(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU, nn.Hardswish, nn.Dropout, nn.Dropout2d, nn.Dropout3d, nn.Identity,
      keeps_inputs=False)  # fmt: skip
def pass_through(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """R_i = R_i: an elementwise function keeps relevance where it is."""
    return (relevance,)


@rule(nn.Flatten)
def reshape_back(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor]:
    """Relevance takes the input's shape again."""
    return (relevance.reshape(step.inputs[0].shape),)


@rule(Add)
def add(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor, Tensor]:
    """R_a = a / (a + b) R, as the authors' release; `absolute`: |a| / (|a| + |b|) R, bounded where signs differ."""
    a, b = step.inputs
    if step.options.residual == "absolute":
        a, b = a.abs(), b.abs()
    shared = step.share(relevance, a + b)
    return a * shared, b * shared


@rule(Cat)
def cat(step: Step, relevance: Tensor, kappa: int) -> tuple[Tensor, ...]:
    """Each part gets its own relevance back."""
    dim = step.module.dim
    return torch.split(relevance, [part.shape[dim] for part in step.inputs], dim)  # type: ignore
