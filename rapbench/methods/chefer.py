"""Attention weighted by its gradient, from block to block [chefer2021generic]."""

import torch
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.attention_maps import explained


@methods.register("chefer", title="Chefer et al.", signs=("positive",), passes=2.3)
def chefer(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return R after R <- R + E(max(A dA, 0)) R over all blocks, R = I before them, interpolated to the image.

    A are a block's weights, dA the target logit's gradient with respect to them, E the mean over heads.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For a network without attention between all tokens of the image.
    """
    return explained(model, inputs, targets, "chefer", _relevance)


def _relevance(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    size = weights[0].shape[-1]
    taken = torch.eye(size, dtype=weights[0].dtype, device=weights[0].device).expand(len(weights[0]), -1, -1)
    for block, gradient in zip(weights, gradients, strict=True):
        taken = taken + (block * gradient).clamp(min=0).mean(1) @ taken
    return taken
