"""Copies of a network in which layers have random weights; the network itself is not touched."""

import copy
import math

import torch
from torch import Tensor, nn

from rapbench.core.random import random_keys, seed_of
from rapbench.model import Model


class Randomised:
    """A network in stages, at each of which more or other layers have random weights instead of the trained ones.

    A layer is a module with parameters of its own. Its weights are drawn by its own `reset_parameters`; parameters that
    this leaves as they were are permuted, as are those of a layer without it. The draws depend on the seed and on the
    layer's name alone, not on the device.

    It keeps the stages, and not the network: copies share the weights of their other layers with it.

    Parameters
    ----------
    model : Model
        Not changed.
    inputs : Tensor, (N, C, *space)
        Of which the first is asked, for the order of the layers.
    seed : int
    """

    def __init__(self, model: Model, inputs: Tensor, seed: int):
        self.seed = seed
        self.layers = from_the_logits_down(model, inputs[:1])
        self._drawn: dict[str, dict[int, Tensor]] = {}
        self._stages: dict[tuple[int, int], Model] = {}

    def stage(self, model: Model, number: int, stages: int, *, cascading: bool) -> Model:
        """Return a copy of the model at a stage, 1 to `stages`, which are even over the layers from the logits down.

        cascading: all layers down to there are random; else that layer alone.
        """
        last = max(1, math.ceil(len(self.layers) * number / stages))
        first = 0 if cascading else last - 1
        if (first, last) not in self._stages:
            draws = [self._draw(model, name) for name in self.layers[first:last]]
            others = {key: tensor for draw in draws for key, tensor in draw.items()}
            self._stages[first, last] = model.with_tensors(others)
        return self._stages[first, last]

    def _draw(self, model: Model, name: str) -> dict[int, Tensor]:
        """Return a layer's random tensors, by the ids of those that they stand for."""
        if name not in self._drawn:
            layer = model.network.get_submodule(name)
            self._drawn[name] = _random(layer, seed_of(self.seed, "weights", name))
        return self._drawn[name]


def from_the_logits_down(model: Model, inputs: Tensor) -> list[str]:
    """Return the names of the layers with parameters that the logits depend on, in reverse order of their first call.

    A layer that is used without a call, such as the output projection of attention, follows what it lies in.
    """
    with torch.inference_mode(False), torch.enable_grad():
        own = {id(parameter): nn.Parameter(parameter.detach()) for parameter in model.network.parameters()}
        network = model.with_tensors(own).network  # a copy, whose hooks and gradients are its own
        called: dict[nn.Module, None] = {}
        for module in network.modules():
            module.register_forward_pre_hook(lambda module, _: called.setdefault(module))
        tensors = dict(network.named_parameters())
        logits = network(inputs.clone())
        gradients = torch.autograd.grad(logits.sum(), list(tensors.values()), allow_unused=True)
    names = {module: name for name, module in network.named_modules()}
    used = {name.rpartition(".")[0] for name, gradient in zip(tensors, gradients, strict=True) if gradient is not None}
    places = {names[module]: place for place, module in enumerate(called)}

    def place(name: str) -> tuple[int, str]:
        """Return where a layer comes: its own call, or that of the nearest module around it, and then by name."""
        around = name
        while around not in places:
            around = around.rpartition(".")[0]
        return places[around], name

    return sorted(used, key=place, reverse=True)


def _own(module: nn.Module) -> list[str]:
    return [name for name, parameter in module._parameters.items() if parameter is not None]


def _random(layer: nn.Module, seed: int) -> dict[int, Tensor]:
    """Return random tensors for a layer's own parameters and buffers, by the ids of these, on their device."""
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        drawn = copy.deepcopy(layer).cpu()
        torch.manual_seed(seed & (2**63 - 1))
        if callable(reset := getattr(drawn, "reset_parameters", None)):
            reset()
        found: dict[int, Tensor] = {}
        for name, buffer in layer._buffers.items():
            if buffer is not None:
                found[id(buffer)] = drawn._buffers[name].to(buffer)  # type: ignore[union-attr]
        for number, name in enumerate(_own(layer)):
            old, new = layer.get_parameter(name), drawn.get_parameter(name).detach()
            if torch.equal(new, old.cpu()):
                order = random_keys(torch.tensor([seed_of(seed, number)]), old.numel())[0].argsort(stable=True)
                new = old.detach().cpu().flatten()[order].view_as(old)
            found[id(old)] = nn.Parameter(new.to(old), requires_grad=old.requires_grad)
    return found
