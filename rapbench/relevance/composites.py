"""Composites of LRP: which layer has which rule, by its name, its position or its type."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Literal, get_type_hints

from timm.layers import Conv2dSame
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError, did_you_mean
from rapbench.model import Model
from rapbench.registry import check_options
from rapbench.relevance import lrp_rules
from rapbench.relevance.linear import CONVOLUTIONS, LINEAR, TRANSPOSED, innermost
from rapbench.relevance.lrp_rules import STABILIZER, AlphaBeta, Bias, Box, Flat, Rule, WSquare, ZBox
from rapbench.relevance.network import Network
from rapbench.relevance.node_names import place
from rapbench.relevance.operations import MatMul
from rapbench.relevance.pixel_box import pixel_box
from rapbench.relevance.rules import Sharing

RuleName = Literal["alpha_beta", "epsilon", "flat", "gamma", "wsquare", "zbox", "zplus"]
# From a layer's name, a pattern of names, its position or its type to a rule: a name, or {rule: name, option: value}.
Stated = dict[str, RuleName | dict[str, str | float]]

POSITIONS = ("first", "last")
KINDS = ("convolution", "dense", "attention")
TYPES = tuple(kind.__name__ for kind in (*CONVOLUTIONS, *TRANSPOSED, Conv2dSame, nn.Linear))
SHOWN = 12  # names of layers in a message


@dataclass(frozen=True)
class Composite(Sharing):
    """A rule for each linear layer of a network and each product of attention and values."""

    stabilizer: float = STABILIZER
    rules: Mapping[fx.Node | None, Rule] = field(default_factory=dict)


@dataclass(frozen=True)
class Layer:
    """A linear layer, or a product of attention and values, that takes relevance.

    name: as in the user's module. type: of the torch module. kind: one of KINDS. positions: those of POSITIONS that it
    has; in a network with branches several layers are first or last.
    """

    node: fx.Node
    name: str
    type: str
    kind: str
    positions: tuple[str, ...]

    def tiers(self, keys: Sequence[str]) -> list[list[str]]:
        """Return the keys that speak of this layer, the most special first: name, pattern, position, type, kind."""
        words = (*POSITIONS, *KINDS, *TYPES)
        names = [key for key in keys if key not in words]
        return [
            [key for key in names if key == self.name],
            [key for key in names if fnmatchcase(self.name, key)],
            [key for key in keys if key in self.positions],
            [key for key in keys if key == self.type],
            [key for key in keys if key == self.kind],
            [key for key in keys if key == "dense" and self.kind == "attention"],
        ]


def everywhere(rule: Rule) -> dict[str, Rule]:
    """Return the composite of one rule for all layers."""
    return dict.fromkeys(KINDS, rule)


def layers_of(network: Network, model: nn.Module) -> list[Layer]:
    """Return the linear layers of a network, and products of attention, that take relevance, in forward order."""
    path = network.path
    linear = {node for node in path if isinstance(network.modules.get(str(node.target)), (*LINEAR, MatMul))}
    below, above = set[fx.Node](), set[fx.Node]()  # nodes with a linear layer below them, or above
    for node in path:
        if any(argument in below or argument in linear for argument in node.all_input_nodes):
            below.add(node)
    carrying = set(path)
    for node in reversed(path):
        if any(user in above or user in linear for user in node.users if user in carrying):
            above.add(node)
    found = []
    for node in path:
        if node in linear:
            module = innermost(network.modules[str(node.target)])
            positions = [word for word, beyond in zip(POSITIONS, (below, above), strict=True) if node not in beyond]
            name = place(node).removeprefix("network." if isinstance(model, Model) else "")
            kind = "dense" if isinstance(module, nn.Linear) else "convolution"
            kind = "attention" if isinstance(module, MatMul) else kind
            found.append(Layer(node, name, type(module).__name__, kind, tuple(positions)))
    return found


def assigned(
    network: Network, model: nn.Module, inputs: Tensor, rules: Mapping[str, Rule], *, own: bool = False
) -> Composite:
    """Return the composite in which each linear layer has the rule of the most special key that speaks of it.

    Parameters
    ----------
    network, model : Network, nn.Module
        The model, made ready, and the model.
    inputs : Tensor
        (N, C, ...), whose shape and type count.
    rules : mapping of str to Rule
        By name, pattern, position, type or kind.
    own : bool
        Whether the user states the keys, rather than a built-in method.

    Raises
    ------
    RapbenchError
        For a key that speaks of no layer, a layer that no key speaks of, and keys that contradict each other.
    """
    layers = layers_of(network, model)
    if own:
        _refuse_unclear(layers, rules)
    found: dict[fx.Node | None, Rule] = {}
    for layer in layers:
        keys = next((keys for keys in layer.tiers(list(rules)) if keys), [])
        if not keys:
            raise RapbenchError(
                f"rules: none for {layer.type} at {layer.name}; add one for {layer.kind!r}, {layer.type!r} or the name"
            )
        if any(rules[key] != rules[keys[0]] for key in keys):
            raise RapbenchError(
                f"rules: {' and '.join(map(repr, keys))} both speak of {layer.name}; add it by its name"
            )
        rule = rules[keys[0]]
        if isinstance(rule, ZBox) and rule.box == "pixels":
            low, high = pixel_box(network, model, inputs, layer.node)
            rule = replace(rule, low=low, high=high)
        found[layer.node] = rule
    return Composite(rules=found)


def _refuse_unclear(layers: list[Layer], keys: Mapping[str, Rule]) -> None:
    """Raise RapbenchError for a name or pattern of no layer, and a word that is the name of a layer as well."""
    names = list(dict.fromkeys(layer.name for layer in layers))
    words = (*POSITIONS, *KINDS, *TYPES)
    for key in keys:
        if key in words and key in names:
            raise RapbenchError(
                f"rules: {key!r} is a position or type of layers, and the name of one here; for that layer write a "
                f"pattern, '[{key[0]}]{key[1:]}', for the position or type the layers' names"
            )
        if key not in words and not any(key in (layer.name, *layer.tiers([key])[1]) for layer in layers):
            shown = ", ".join(names[:SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > SHOWN else "")
            raise RapbenchError(
                f"rules: {key!r} is no layer that takes relevance{did_you_mean(key, [*words, *names])}; positions: "
                f"{', '.join(POSITIONS)}; types: {', '.join((*KINDS, *TYPES))}; layers: {shown}"
            )


def _alpha_beta(*, alpha: float = 2.0, bias: Bias = "in_denominator") -> Rule:
    return lrp_rules.alpha_beta("lrp", alpha, bias)


def _epsilon(*, stabilizer: float = 0.1, bias: Bias = "in_denominator") -> Rule:
    return lrp_rules.epsilon("lrp", stabilizer, bias)


def _gamma(*, gamma: float = 0.25, bias: Bias = "in_denominator") -> Rule:
    return lrp_rules.gamma_rule("lrp", gamma, bias)


def _zplus(*, bias: Bias = "in_denominator") -> Rule:
    return AlphaBeta(1, bias)


def _zbox(*, box: Box = "pixels") -> Rule:
    return ZBox(box)


def _wsquare(*, bias: Bias = "in_denominator") -> Rule:
    return WSquare(bias)


# What a composite of one's own calls the rules; their keywords are its options.
NAMED: dict[RuleName, Callable[..., Rule]] = {
    "alpha_beta": _alpha_beta,
    "epsilon": _epsilon,
    "flat": Flat,
    "gamma": _gamma,
    "wsquare": _wsquare,
    "zbox": _zbox,
    "zplus": _zplus,
}


def from_stated(stated: Stated) -> dict[str, Rule]:
    """Return the rules that a user states, by key. Raises RapbenchError for an unknown rule or option."""
    return {key: _rule(key, value) for key, value in stated.items()}


def _rule(key: str, stated: RuleName | dict[str, str | float]) -> Rule:
    options: dict[str, Any] = {"rule": stated} if isinstance(stated, str) else dict(stated)
    name = options.pop("rule", None)
    if name not in NAMED:
        wanted = "no rule: write its name, or {rule: NAME, ...}" if name is None else f"no rule is called {name!r}"
        raise RapbenchError(f"rules: {key!r}: {wanted}{did_you_mean(str(name), NAMED)}; known: {', '.join(NAMED)}")
    hints = {} if NAMED[name] is Flat else get_type_hints(NAMED[name])
    check_options("rule", name, {option: hint for option, hint in hints.items() if option != "return"}, options)
    return NAMED[name](**options)
