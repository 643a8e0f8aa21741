"""Attention rollout [abnar2020rollout]: attention's weights multiplied from block to block. It ignores the class."""

import torch
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.attention_maps import explained


@methods.register("attention_rollout", title="Attention rollout", signs=("positive",), passes=2.3)
def attention_rollout(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the product of (A + I) / 2 over all blocks, A the mean of the heads, interpolated to the image.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices, which change nothing.

    Returns
    -------
    Tensor, shaped like `inputs`
        0 or more, the same in all channels.

    Raises
    ------
    RapbenchError
        For a network without attention between all tokens of the image.
    """
    return explained(model, inputs, targets, "attention_rollout", _rollout)


def _rollout(weights: list[Tensor], gradients: list[Tensor]) -> Tensor:
    identity = torch.eye(weights[0].shape[-1], dtype=weights[0].dtype, device=weights[0].device)
    taken = identity.expand(len(weights[0]), -1, -1)
    for block in weights:
        mixed = (block.mean(1) + identity) / 2
        taken = mixed / mixed.sum(-1, keepdim=True) @ taken
    return taken
