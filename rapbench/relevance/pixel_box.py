"""The range of pixel values as a layer of a network gets to see it."""

import torch
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.model import Model
from rapbench.relevance.network import Network
from rapbench.relevance.node_names import operation, place


def pixel_box(network: Network, model: nn.Module, inputs: Tensor, layer: fx.Node) -> tuple[Tensor, Tensor]:
    """Return the lowest and the highest values of a layer's input, (1, ...), for pixel values from 0 to 1.

    The two extreme images go through what stands between the network's input and the layer, which must only move,
    resize, pad and rescale elements.

    Parameters
    ----------
    network : Network
        The model, made ready.
    model : nn.Module
        Must be a `Model` that states the mean and std of its channels.
    inputs : Tensor
        (N, C, ...), whose shape and type count.
    layer : fx.Node
        Of the network.

    Raises
    ------
    RapbenchError
        For a model that does not state them, and a layer that reads anything else.
    """
    what = f"the rule z^B of {operation(network.graph_module, layer)} at {place(layer)}"
    argument = layer.all_input_nodes[0]
    if argument not in network.like_input:
        raise RapbenchError(
            f"{what} needs the range of the layer's input, but what it reads is more than the image moved, resized, "
            "padded or rescaled; set box=image, or another rule"
        )
    normalisation = model.normalisation if isinstance(model, Model) else None
    if normalisation is None:
        raise RapbenchError(
            f"{what} needs the range of pixel values, and the model states no mean and std of its channels: give "
            "rapbench.Model(module, mean=..., std=...), or set box=image for each image's own minimum and maximum"
        )
    mean, std = (values.to(inputs).view(-1, *[1] * (inputs.dim() - 2)) for values in normalisation)
    ends = [_value_at(network, ((value - mean) / std).expand_as(inputs), argument)[:1] for value in (0.0, 1.0)]
    return torch.minimum(*ends), torch.maximum(*ends)


def _value_at(network: Network, x: Tensor, wanted: fx.Node) -> Tensor:
    """Return what a node of the graph gives for a batch x."""
    interpreter = fx.Interpreter(network.graph_module)
    interpreter.args_iter = iter([x])
    for node in network.graph.nodes:
        interpreter.env[node] = interpreter.run_node(node)
        if node is wanted:
            break
    value: Tensor = interpreter.env[wanted]
    return value
