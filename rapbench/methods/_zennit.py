"""Layer-wise relevance propagation through zennit, on a model brought into the form that zennit can see.

zennit attaches rules to modules. A residual addition or a functional pooling is none, and a batch normalisation needs
to be merged into its convolution; so the model is traced, its operations made modules, and its norms folded, all on a
graph of our own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.layers.pool2d_same import AvgPool2dSame
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from zennit.core import BasicHook, Composite, Hook, Stabilizer
from zennit.layer import Sum
from zennit.rules import AlphaBeta, ClampMod, Epsilon, Norm, Pass, ZPlus
from zennit.types import Convolution

from rapbench.methods._target import target_logits
from rapbench.relevance.canonical import canonical, nonnegative, own_modules, refuse_batch_statistics, twin
from rapbench.relevance.operations import ACTIVATIONS, POOLS, Add, Constant, Gate, Mean
from rapbench.relevance.prepared import prepared

Bias = Literal["in_denominator", "ignored"]

# whether the layer's input is known to be non-negative -> its rule
RuleFor = Callable[[bool], Hook]


def alpha_beta(alpha: float, bias: Bias) -> RuleFor:
    """Return the alpha-beta rule, beta = alpha - 1, without the terms that a non-negative input leaves at 0."""
    zeroed = ["bias"] if bias == "ignored" else None
    stabilize = Stabilizer.ensure(1e-6)  # zennit's own

    def rule(rectified: bool) -> Hook:
        if not rectified:
            return ZPlus(zero_params=zeroed) if alpha == 1 else AlphaBeta(alpha, alpha - 1, zero_params=zeroed)
        clamps = [ClampMod(min=0.0, zero_params=zeroed), ClampMod(max=0.0, zero_params=zeroed)]
        factors = [alpha] if alpha == 1 else [alpha, 1 - alpha]
        return BasicHook(
            input_modifiers=[Tensor.detach] * len(factors),  # each term's own, without a copy
            param_modifiers=clamps[: len(factors)],
            gradient_mapper=lambda out_grad, outputs: [out_grad / stabilize(output) for output in outputs],
            reducer=lambda inputs, gradients: (
                inputs[0] * sum(factor * gradient for factor, gradient in zip(factors, gradients, strict=True))
            ),
        )

    return rule


def epsilon(value: float, bias: Bias) -> RuleFor:
    """Return the epsilon rule: the denominator is z + value * sign(z)."""
    return lambda rectified: Epsilon(value, zero_params=["bias"] if bias == "ignored" else None)


def lrp(model: nn.Module, inputs: Tensor, targets: Tensor, convolution: RuleFor, dense: RuleFor) -> Tensor:
    """Propagate the target logit with one rule in convolutions and one in fully connected layers.

    Activations, constants and norms that follow no linear layer pass relevance on, gates leave it to their signal, sums
    and average pooling share it in proportion, max pooling gives it to the winner.
    Returns relevance shaped like `inputs`. Raises RapbenchError when the model cannot be traced.
    """
    normalised = prepared(model, inputs, "zennit", lambda: Normalised.of(model, inputs))
    normalised.fold()

    def rule_of(context: Any, name: str, module: nn.Module) -> Hook | None:
        rectified = name in normalised.rectified
        if isinstance(module, (*ACTIVATIONS, Constant, _BatchNorm)):
            return Pass()
        if isinstance(module, (Sum, *POOLS["average"], AvgPool2dSame, Mean)):
            return Norm()
        if isinstance(module, Convolution):
            return convolution(rectified)
        return dense(rectified) if isinstance(module, nn.Linear) else None

    inputs = inputs.detach().requires_grad_()
    with torch.enable_grad(), Composite(module_map=rule_of).context(normalised.network) as network:
        logits = target_logits(network(inputs), targets)
        (relevance,) = torch.autograd.grad(logits, inputs, grad_outputs=logits.detach())
    return relevance.detach()


class StackedSum(nn.Module):
    """(a, b) -> a + b through zennit's Sum, the module that its rules know."""

    def __init__(self) -> None:
        super().__init__()
        self.sum = Sum()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Add two tensors of one shape."""
        return self.sum(torch.stack(torch.broadcast_tensors(a, b), dim=-1))


class OpenGate(nn.Module):
    """(signal, gate) -> signal * gate, whose backward pass hands all to the signal, unscaled."""

    def forward(self, signal: Tensor, gate: Tensor) -> Tensor:
        """Multiply, broadcasting."""
        return signal + (signal * gate - signal).detach()


@dataclass
class Normalised:
    """A model as zennit needs it: sums as its modules, a module of its own at each call, norms folded by `fold`.

    folds: (copy, layer, norm) where a norm follows a linear layer. rectified: modules with non-negative inputs.
    """

    network: torch.fx.GraphModule
    folds: list[tuple[Any, Any, Any]]
    rectified: set[str]
    shaped: bool

    @classmethod
    def of(cls, model: nn.Module, inputs: Tensor | None = None) -> "Normalised":
        """Trace a model; RapbenchError when that cannot be done, and for norms by batch statistics."""
        network = own_modules(canonical(model, inputs))
        refuse_batch_statistics(network)
        folds = []
        for node in list(network.graph.nodes):
            if node.op != "call_module":
                continue
            module = network.get_submodule(node.target)
            for ours, theirs in ((Add, StackedSum), (Gate, OpenGate)):
                if isinstance(module, ours):
                    network.add_submodule(node.target, theirs())
            before = node.all_input_nodes[0]
            layer = network.get_submodule(before.target) if before.op == "call_module" else None
            if (
                isinstance(module, _BatchNorm)
                and isinstance(layer, (Convolution, nn.Linear))
                and len(before.users) == 1
            ):
                folded: Any = twin(layer)
                network.add_submodule(before.target, folded)
                folds.append((folded, layer, module))
                node.replace_all_uses_with(before)
                network.graph.erase_node(node)
        network.recompile()
        known = nonnegative(network)
        rectified = {
            node.target
            for node in network.graph.nodes
            if node.op == "call_module" and all(argument in known for argument in node.all_input_nodes)
        }
        return cls(network.eval(), folds, rectified, bool(network.meta.get("shaped")))

    @property
    def graph_module(self) -> torch.fx.GraphModule:
        """The graph."""
        return self.network

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the folded network's output for (N, ...) inputs."""
        self.fold()
        return self.network(inputs)

    def fold(self) -> None:
        """Fold the norms as they are now, each with its own eps (which zennit 0.5.1 leaves out)."""
        with torch.no_grad():
            for folded, layer, norm in self.folds:
                fuse = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
                folded.weight, folded.bias = fuse(
                    layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
                )
