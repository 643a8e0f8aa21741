"""Attention's weights of a transformer, block by block, and what a token's share of them says of the image."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods.adapters.feature_maps import enlarged, token_grid
from rapbench.relevance.canonical import canonical
from rapbench.relevance.graph_cache import prepared
from rapbench.relevance.node_names import place
from rapbench.relevance.operations import MatMul

# (blocks' weights, (N, heads, T, T) each, their gradients) -> (N, T, T), what each token takes from each of the first
Combined = Callable[[list[Tensor], list[Tensor]], Tensor]


class Attention:
    """A model traced in single operations, with the weights of attention by which values are multiplied."""

    def __init__(self, model: nn.Module, inputs: Tensor):
        self.canonical = canonical(model, inputs)
        self.shaped = self.canonical.shaped
        network = self.canonical.graph_module
        self.weights: list[fx.Node] = []
        for node in network.graph.nodes:
            module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
            if isinstance(module, MatMul) and module.values is not None:
                self.weights.append(node.all_input_nodes[1 - module.values])

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the model's output for (N, ...) inputs."""
        logits: Tensor = self.canonical.graph_module(inputs)
        return logits

    def run(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and the weights of each block, in order."""
        found: dict[fx.Node, Tensor] = {}
        wanted = set(self.weights)

        class Watching(fx.Interpreter):
            def run_node(self, node: fx.Node) -> Any:
                value = super().run_node(node)
                if node in wanted:
                    found[node] = value
                return value

        logits = Watching(self.canonical.graph_module).run(inputs)
        return logits, [found[node] for node in self.weights]


def explained(model: nn.Module, inputs: Tensor, targets: Tensor, method: str, combine: Combined) -> Tensor:
    """Return what the token that is classified takes from each token of the image, interpolated to the image.

    The mean over all tokens on which the logits depend behind the last attention, where these are several.

    Parameters
    ----------
    model, inputs, targets
        As a method takes them.
    method : str
        For messages.
    combine : callable
        From the blocks' weights and their gradients to what each token takes from each.

    Returns
    -------
    Tensor
        Shaped like `inputs`, alike in each channel.

    Raises
    ------
    RapbenchError
        For a network without attention between all tokens of the image.
    """
    network = prepared(model, inputs, "attention", lambda: Attention(model, inputs))
    what = f"{method} takes vision transformers in which every token attends to every other"
    if not network.weights:
        raise RapbenchError(f"{what}; {type(model).__name__} has no attention")
    with torch.enable_grad():
        logits, weights = network.run(inputs.detach().clone().requires_grad_())
        tokens = weights[0].shape[-1]
        for node, found in zip(network.weights, weights, strict=True):
            if found.dim() != 4 or len(found) != len(inputs) or found.shape[2:] != (tokens, tokens):
                raise RapbenchError(
                    f"{what}; at {place(node)} the weights are of shape {tuple(found.shape)} for {len(inputs)} inputs, "
                    f"not ({len(inputs)}, heads, {tokens}, {tokens})"
                )
        gradients = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), weights, allow_unused=True)
    grid = token_grid(model, inputs, tokens)
    if not grid or any(gradient is None for gradient in gradients):
        raise RapbenchError(f"{what}; in {type(model).__name__} the tokens' places in the image are not to be found")
    read = (gradients[-1] != 0).any(3).any(1).to(weights[0].dtype)  # (N, T), the tokens that the logits are read from
    with torch.no_grad():
        taken = combine([found.detach() for found in weights], list(gradients))
        each = torch.einsum("nt,nts->ns", read / read.sum(1, keepdim=True).clamp(min=1), taken)
    size = torch.Size(grid).numel()
    return enlarged(each[:, -size:].unflatten(1, grid), inputs)
