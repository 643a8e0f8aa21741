"""Attention written out in single operations, for tracing: what torch and torchvision keep in one call."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def expansion(target: Any) -> Callable[..., Any] | None:
    """Return what does the same as a function in single operations; None for a function that stays one.

    Torchvision's functions are their own: it hides them from torch.fx, though they can be followed.
    """
    if target is F.scaled_dot_product_attention:
        return attention
    if str(getattr(target, "__module__", "")).startswith("torchvision.models."):
        return target  # type: ignore[no-any-return]
    return None


def attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """Return softmax(q k^T scale + mask) v; arguments and shapes as torch's scaled_dot_product_attention.

    Raises ValueError for dropout, grouped queries, causal and Boolean masks.
    """
    boolean = isinstance(attn_mask, Tensor) and attn_mask.dtype == torch.bool
    if dropout_p or is_causal or enable_gqa or boolean:
        raise ValueError("attention with dropout, a causal or Boolean mask or grouped queries is not supported")
    return _weights(query, key, query.shape[-1] ** -0.5 if scale is None else scale, attn_mask) @ value


def multihead(
    module: nn.MultiheadAttention,
    query: Any,
    key: Any,
    value: Any,
    key_padding_mask: Any = None,
    need_weights: bool = True,
    attn_mask: Any = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> tuple[Any, Any]:
    """Return a MultiheadAttention's output and attention; arguments and shapes as its own, in eval mode.

    Raises ValueError for padding and causal masks, and for key and value biases.
    """
    if key_padding_mask is not None or is_causal or module.bias_k is not None or module.add_zero_attn:
        raise ValueError("MultiheadAttention with padding or a causal mask or key biases is not supported")
    size, heads = module.embed_dim, module.num_heads
    weights: Any = [module.q_proj_weight, module.k_proj_weight, module.v_proj_weight]
    if module._qkv_same_embed_dim:
        weights = [module.in_proj_weight[start : start + size] for start in (0, size, 2 * size)]
    biases: Any = [None] * 3
    if module.in_proj_bias is not None:
        biases = [module.in_proj_bias[start : start + size] for start in (0, size, 2 * size)]
    given = (query, key, value)
    if not module.batch_first:
        given = tuple(x.transpose(0, 1) for x in given)
    count = given[0].shape[0]
    q, k, v = (
        F.linear(x, weight, bias).view(count, -1, heads, size // heads).transpose(1, 2)
        for x, weight, bias in zip(given, weights, biases, strict=True)
    )
    attended = _weights(q, k, (size // heads) ** -0.5, attn_mask)
    joined = (attended @ v).transpose(1, 2).reshape(count, -1, size)
    joined = F.linear(joined, module.out_proj.weight, module.out_proj.bias)
    if not module.batch_first:
        joined = joined.transpose(0, 1)
    if not need_weights:
        return joined, None
    return joined, attended.mean(1) if average_attn_weights else attended


def _weights(query: Any, key: Any, scale: Any, mask: Any) -> Any:
    """Return softmax(q k^T scale + mask)."""
    scores = query * scale @ key.transpose(-2, -1)
    return torch.softmax(scores if mask is None else scores + mask, -1)
