"""LRP through zennit, as the independent referee: on a graph in which sums, gates and folded norms are modules."""

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Norm, Pass
from zennit.types import AvgPool, Convolution

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
    "lrp_preset_a": (lambda: AlphaBeta(1, 0), lambda: Epsilon(0.1)),
    "lrp_preset_b": (lambda: AlphaBeta(2, 1), lambda: Epsilon(0.1)),
}
