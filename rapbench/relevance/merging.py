"""Neighbours in a graph that are one linear layer: padding and its convolution, a layer and its batch norm."""

from torch import fx, nn

from rapbench.relevance.linear import CONVOLUTIONS, LINEAR, TRANSPOSED, Folded, Padded
from rapbench.relevance.node_names import FROM_FUNCTION, place
from rapbench.relevance.operations import NORMS, Pad


def merge_padding(network: fx.GraphModule) -> None:
    """Make one layer of zero padding and the convolution that alone reads it."""
    modules = dict(network.named_modules())
    for node in list(network.graph.nodes):
        module, before = modules.get(str(node.target)), node.all_input_nodes[:1]
        if node.op != "call_module" or not before or before[0].op != "call_module":
            continue
        pad = modules.get(str(before[0].target))
        if isinstance(pad, (nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d)):
            pad = Pad(pad.padding)
        if type(module) not in (*CONVOLUTIONS, *TRANSPOSED) or not isinstance(pad, Pad) or len(before[0].users) > 1:
            continue
        spatial = len(pad.pad) // 2 <= module.weight.dim() - 2  # type: ignore[union-attr]
        if spatial and pad.mode == "constant" and not pad.value:
            _replace(network, node, Padded(pad, module))  # type: ignore[arg-type]
            node.replace_input_with(before[0], before[0].all_input_nodes[0])
            network.graph.erase_node(before[0])


def fold_norms(network: fx.GraphModule) -> list[Folded]:
    """Make one layer of each batch norm and the linear layer that it alone reads; returns them."""
    modules = dict(network.named_modules())
    folded = []
    for node in list(network.graph.nodes):
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if type(norm) not in NORMS:
            continue
        before = node.all_input_nodes[0]
        layer = modules.get(str(before.target)) if before.op == "call_module" else None
        if type(layer) in LINEAR and len(before.users) == 1:
            folded.append(Folded(layer, norm, place(node)))  # type: ignore[arg-type]
            _replace(network, before, folded[-1])
            modules[str(before.target)] = folded[-1]
            node.replace_all_uses_with(before)
            network.graph.erase_node(node)
    return folded


def _replace(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> None:
    """Let a call, which keeps its place in the user's model, call another module."""
    kind = FROM_FUNCTION if str(node.target).startswith(FROM_FUNCTION) else "_"
    node.target = f"{kind}merged_{node.name}_{type(module).__name__}"
    network.add_submodule(node.target, module)
