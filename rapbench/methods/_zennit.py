"""Layer-wise relevance propagation through zennit, on a model brought into the form that zennit can see.

zennit attaches rules to modules. A residual addition or a functional pooling is none, and a batch normalisation needs
to be merged into its convolution; so the model is traced, its operations made modules, and its norms folded, all on a
copy of the graph that shares no state with the user's model.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from zennit.composites import LayerMapComposite
from zennit.core import Hook
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Norm, Pass, ZPlus
from zennit.types import Activation, AvgPool, Convolution

from rapbench.methods._target import target_logits
from rapbench.relevance.canonical import canonical, own_modules
from rapbench.relevance.operations import Add, Mean

Bias = Literal["in_denominator", "ignored"]


class StackedSum(nn.Module):
    """(a, b) -> a + b through zennit's Sum, the module that its rules know."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return self.sum(torch.stack(torch.broadcast_tensors(a, b), dim=-1))


def alpha_beta(alpha: float, bias: Bias) -> Hook:
    """Return the alpha-beta rule, beta = alpha - 1; for alpha = 1 zennit's cheaper form of it."""
    zeroed = ["bias"] if bias == "ignored" else None
    return ZPlus(zero_params=zeroed) if alpha == 1 else AlphaBeta(alpha, alpha - 1, zero_params=zeroed)


def epsilon(value: float, bias: Bias) -> Hook:
    """Return the epsilon rule: the denominator is z + value * sign(z)."""
    return Epsilon(value, zero_params=["bias"] if bias == "ignored" else None)


def lrp(model: nn.Module, inputs: Tensor, targets: Tensor, convolution: Hook, dense: Hook) -> Tensor:
    """Propagate the target logit with one rule in convolutions and one in fully connected layers.

    Activations pass relevance on, sums and average pooling share it in proportion, max pooling gives it to the winner.
    Returns relevance shaped like `inputs`. Raises RapbenchError when the model cannot be traced.
    """
    composite = LayerMapComposite(
        [
            (Activation, Pass()),
            (Sum, Norm()),
            ((AvgPool, Mean), Norm()),
            (Convolution, convolution),
            (nn.Linear, dense),
        ]
    )
    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad(), composite.context(normalised(model)) as network:
        logits = target_logits(network(inputs), targets)
        (relevance,) = torch.autograd.grad(logits, inputs, grad_outputs=logits.detach())
    return relevance.detach()


def normalised(model: nn.Module) -> torch.fx.GraphModule:
    """Return a copy with batch norms folded, sums as zennit's modules, and a module of its own at each call."""
    network: torch.fx.GraphModule = fuse(canonical(model), no_trace=True)  # type: ignore[assignment]
    for node in network.graph.nodes:
        if node.op == "call_module" and isinstance(network.get_submodule(node.target), Add):
            network.add_submodule(node.target, StackedSum())
    return own_modules(network).eval()  # type: ignore[return-value]
