"""LRP through zennit, as the independent referee: on a graph in which sums, gates and folded norms are modules."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from zennit.composites import (
    EpsilonAlpha2Beta1,
    EpsilonAlpha2Beta1Flat,
    EpsilonGammaBox,
    EpsilonPlus,
    EpsilonPlusFlat,
    LayerMapComposite,
    layer_map_base,
)
from zennit.core import Composite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Gamma, Norm, Pass, ZPlus
from zennit.torchvision import ResNetCanonizer
from zennit.types import AvgPool, Convolution

import rapbench
from rapbench.methods.adapters.zennit_coverage import covered_copy
from rapbench.relevance.canonical import canonical, own_modules
from rapbench.relevance.operations import ACTIVATIONS, Add, Constant, Gate, Mean
from rapbench.relevance.plain import twin


class StackedSum(nn.Module):
    """(a, b) -> a + b through zennit's Sum, the module that its rules know."""

    def __init__(self):
        super().__init__()
        self.sum = Sum()

    def forward(self, a, b):
        return self.sum(torch.stack(torch.broadcast_tensors(a, b), dim=-1))


class OpenGate(nn.Module):
    """(signal, gate) -> signal * gate, whose backward pass hands all to the signal, unscaled."""

    def forward(self, signal, gate):
        return signal + (signal * gate - signal).detach()


def zennit_lrp(model: nn.Module, inputs: Tensor, target: int, convolution, dense) -> Tensor:
    """Return relevance shaped like `inputs`. convolution, dense: zennit's rules; norms are folded by torch."""
    network = own_modules(canonical(model, inputs).graph_module)
    for node in list(network.graph.nodes):
        if node.op != "call_module":
            continue
        module, before = network.get_submodule(node.target), node.all_input_nodes[0]
        for ours, theirs in ((Add, StackedSum), (Gate, OpenGate)):
            if isinstance(module, ours):
                network.add_submodule(node.target, theirs())
        layer = network.get_submodule(before.target) if before.op == "call_module" else None
        linear = isinstance(layer, (Convolution, nn.Linear)) and len(before.users) == 1
        if isinstance(module, _BatchNorm) and linear:
            folded = twin(layer)
            fuse = fuse_linear_bn_weights if isinstance(layer, nn.Linear) else fuse_conv_bn_weights
            folded.weight, folded.bias = fuse(
                layer.weight, layer.bias, module.running_mean, module.running_var, module.eps, module.weight,
                module.bias,
            )  # fmt: skip
            network.add_submodule(before.target, folded)
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    network.recompile()
    layer_map = [((*ACTIVATIONS, Constant, _BatchNorm), Pass()), ((Sum, AvgPool, Mean), Norm()),
                 (Convolution, convolution), (nn.Linear, dense)]  # fmt: skip
    x = inputs.detach().requires_grad_()
    with LayerMapComposite(layer_map).context(network.eval()) as modified:
        logits = modified(x)[:, target]
        return torch.autograd.grad(logits, x, logits.detach())[0]


RULES = {
    "lrp_a1b0": (lambda: AlphaBeta(1, 0), lambda: AlphaBeta(1, 0)),
    "lrp_a2b1": (lambda: AlphaBeta(2, 1), lambda: AlphaBeta(2, 1)),
    "lrp_epsilon": (lambda: Epsilon(0.1), lambda: Epsilon(0.1)),
    "lrp_gamma": (lambda: Gamma(0.25), lambda: Gamma(0.25)),
    "lrp_preset_a": (lambda: AlphaBeta(1, 0), lambda: Epsilon(0.1)),
    "lrp_preset_b": (lambda: AlphaBeta(2, 1), lambda: Epsilon(0.1)),
}


MEAN, STD = 0.45, 0.25  # of each channel, where a composite needs the range of the pixels


def _layers(convolution, dense) -> LayerMapComposite:
    layer_map = [*layer_map_base(), (Convolution, convolution()), (nn.Linear, dense())]
    return LayerMapComposite(layer_map, canonizers=[ResNetCanonizer()])


# What zennit has for each of our methods, from (channels, dimensions of the space).
ZENNITS: dict[str, Callable[[int, int], Composite]] = {
    **{method: lambda *_, rules=rules: _layers(*rules) for method, rules in RULES.items()},
    "lrp": lambda *_: _layers(ZPlus, lambda: Epsilon(0.1)),
    "lrp_alpha_beta": lambda *_: _layers(AlphaBeta, AlphaBeta),
    "lrp_epsilon_plus": lambda *_: EpsilonPlus(canonizers=[ResNetCanonizer()]),
    "lrp_epsilon_plus_flat": lambda *_: EpsilonPlusFlat(canonizers=[ResNetCanonizer()]),
    "lrp_epsilon_alpha2_beta1": lambda *_: EpsilonAlpha2Beta1(canonizers=[ResNetCanonizer()]),
    "lrp_epsilon_alpha2_beta1_flat": lambda *_: EpsilonAlpha2Beta1Flat(canonizers=[ResNetCanonizer()]),
    "lrp_epsilon_gamma_box": lambda channels, dimensions: EpsilonGammaBox(
        *(torch.full((1, channels, *[1] * dimensions), (value - MEAN) / STD).double() for value in (0, 1)),
        canonizers=[ResNetCanonizer()],
    ),
}


def zennits_own(network: nn.Module, x: Tensor, target: int, method: str) -> Tensor:
    """Return what zennit gives for one of our methods, through its own canonizers, on (N, C, ...) inputs.

    Raises RapbenchError where zennit does not see all of the network.
    """
    return explained_by(ZENNITS[method](x.shape[1], x.dim() - 2), network, x, target)


def explained_by(composite: Composite, network: nn.Module, x: Tensor, target: int) -> Tensor:
    x = x.detach().clone().requires_grad_()
    with composite.context(covered_copy(network, x.detach(), composite, "zennit")) as modified:
        logits = modified(x)[:, target]
        return torch.autograd.grad(logits, x, logits.detach())[0]


def ours(network: nn.Module, x: Tensor, target: int, method: str) -> Tensor:
    """Return our relevance, of a model that states its pixels' range."""
    channels = x.shape[1]
    model = rapbench.Model(network, mean=[MEAN] * channels, std=[STD] * channels).to(x.dtype)
    return rapbench.attribute(model, x, target, method)
