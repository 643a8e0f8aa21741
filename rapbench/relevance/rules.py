"""The registry of relevance rules: how one kind of module hands relevance from its output to its inputs."""

import inspect
from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, fx, nn

from rapbench.core.errors import RapbenchError
from rapbench.relevance import images
from rapbench.relevance.cancellation import rounding_error

T = TypeVar("T")


@dataclass(frozen=True)
class Sharing:
    """How relevance is shared in proportion where layers have no weights: at additions and in average pooling.

    Parameters
    ----------
    residual : str
        At an addition a + b: `proportional` to a and b, or to their magnitudes, `absolute`.
    stabilizer : float
        Added to the magnitude of what is divided by, so that small totals hand on little.
    """

    residual: Literal["proportional", "absolute"] = "proportional"
    stabilizer: float = 0.0


@dataclass(frozen=True)
class Options(Sharing):
    """What the paper leaves open in RAP, each with its default."""

    inversion_sign: Literal["keep", "flip"] = "keep"
    mixed_sign: Literal["joint", "printed"] = "joint"
    bias_divisor: Literal["area", "area_squared"] = "area"
    input_rule: Literal["zbox", "zbox_swapped", "same_as_hidden"] = "zbox"
    bias_correction: bool = True
    batchnorm_correction: bool = True


@dataclass
class Flow:
    """One flow's relevance at a module call, and what its rule says of it.

    Parameters
    ----------
    relevance : Tensor
        Relevance of the module's output, shaped like it; the rule's to overwrite.
    kappa : int
        +1 in the normal flow, -1 in the inversion flow, 0 in RAP's last linear layer and above it.
    dropped : Tensor or float
        (N,) relevance that found nobody to go to, counted by `Step.share` where `Step.count_dropped`.
    times : int
        How often the rule hands out what it is given: 1 unless it sets another number.
    """

    relevance: Tensor
    kappa: int
    dropped: Tensor | float = 0.0
    times: int = 1


@dataclass(frozen=True)
class Step:
    """One module call while relevance goes back through it, the same for all flows.

    Parameters
    ----------
    module : nn.Module
        What was called.
    inputs : tuple of Tensor
        The activations it was given, (N, ...) each; None for a rule that does not keep them.
    first : bool
        Whether its input is the network's input, but for what rearranges or rescales it.
    options : Any
        The rules' options: `Options` for RAP's.
    output : Tensor, optional
        What it returned, where that is still known.
    shapes : tuple of torch.Size
        The inputs' shapes.
    nonnegative : tuple of bool
        Which inputs are never negative, known from the graph.
    constants : dict, optional
        What `constant` has computed from weights alone, kept while the images of a batch go down a few at a time.
    varying : tuple of bool
        Which inputs depend on the network's input.
    count_dropped : bool
        Whether each flow's `dropped` is asked for: then no two flows' relevance may be propagated together.
    batch : int
        How many images there are, where a tensor may have several rows of each, as windows of attention; 0: a row each.
    node : fx.Node, optional
        The call in the network's graph.
    rounding_error : Tensor, optional
        (batch,) `cancellation.rounding_error` of the layers above; `share` adds to it.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    first: bool
    options: Any
    output: Tensor | None = None
    shapes: tuple[torch.Size, ...] = ()
    nonnegative: tuple[bool, ...] = ()
    constants: dict[str, Any] | None = None
    varying: tuple[bool, ...] = ()
    count_dropped: bool = False
    batch: int = 0
    node: fx.Node | None = None
    rounding_error: Tensor | None = None

    def constant(self, name: str, compute: Callable[[], T]) -> T:
        """Return compute(), which must depend on the module and the options only."""
        if self.constants is None:
            return compute()
        if name not in self.constants:
            self.constants[name] = compute()
        found: T = self.constants[name]
        return found

    def per_image(self, x: Tensor) -> Tensor:
        """Return (batch,) sums over all that each image has; x: (rows, ...)."""
        return images.per_image(x, self.images_in(x))

    def images_in(self, x: Tensor) -> int:
        """Return how many images x, (rows, ...), is of."""
        return self.batch or len(x)

    def denominator(self, total: Tensor, *, signed: bool) -> Tensor:
        """Return `total`, overwritten, as what relevance is divided by: `divisor`, or with the options' stabilizer."""
        return stabilized(total, self.options.stabilizer, signed=signed)

    def share(
        self,
        flow: Flow,
        relevance: Tensor,
        denominator: Tensor,
        *,
        added: Tensor | None = None,
        summand: Tensor | None = None,
    ) -> Tensor:
        """Return relevance / denominator, and count what is dropped.

        What a denominator holds beside the inputs' contributions keeps its share of the relevance, which is dropped;
        where the denominator is infinite, all of it is.

        Parameters
        ----------
        flow : Flow
            Whose relevance it is: its `dropped` grows, where it is counted.
        relevance : Tensor
            `flow.relevance`, or a part of it; overwritten.
        denominator : Tensor
            Of the same shape, without 0, as `divisor` and `denominator` give it.
        added : Tensor, optional
            What the denominator holds beside the inputs' contributions; by default the options' stabilizer.
        summand : Tensor, optional
            Where parts of either sign may cancel in the denominator: one of two, or half the sum of all magnitudes.

        Returns
        -------
        Tensor
            In the memory of `relevance`.
        """
        if summand is not None and self.rounding_error is not None:
            self.rounding_error.add_(rounding_error(summand, denominator, relevance, len(self.rounding_error)))
        if not self.count_dropped:
            return relevance.div_(denominator)
        nobody = torch.where(denominator.isinf(), relevance, 0)
        shared = relevance.div_(denominator)
        if added is None:
            added = beside(denominator, self.options.stabilizer)
        flow.dropped = flow.dropped + self.per_image(nobody) + self.per_image(shared * added)
        return shared


def beside(denominator: Tensor, stabilizer: float, other: Tensor | None = None) -> Tensor:
    """Return what a denominator holds beside the inputs' contributions: its stabilizer, and `other`, as a bias."""
    added = torch.full_like(denominator, stabilizer).copysign_(denominator)
    return added if other is None else added + other


def divisor(total: Tensor, *, signed: bool) -> Tensor:
    """Return `total`, overwritten, with infinity for 0, so that a ratio whose denominator is 0 becomes 0.

    Parameters
    ----------
    total : Tensor
        float32 or float64, of any shape. Below about 1e-35 in float32 (1e-305 in float64) it counts as 0: the quotient
        would overflow. In lower precision that bound would reach totals that matter.
    signed : bool
        False when no total is negative.

    Returns
    -------
    Tensor
        `total` itself.
    """
    tiny = torch.finfo(total.dtype).tiny * 1024
    if not signed:
        return torch.threshold_(total, tiny, torch.inf)
    return torch.threshold_(total.abs(), tiny, torch.inf).copysign_(total)


def stabilized(total: Tensor, stabilizer: float, *, signed: bool) -> Tensor:
    """Return `total`, overwritten, moved away from 0 by the stabilizer; by `divisor` where that is 0."""
    if not stabilizer:
        return divisor(total, signed=signed)
    return total.add_(torch.full_like(total, stabilizer).copysign_(total) if signed else stabilizer)


# (step, all flows) -> of each flow, in their order, the relevance of each input; None is none.
Rule = Callable[[Step, Sequence[Flow]], Iterable[tuple[Tensor | None, ...]]]

# an output-shaped tensor s -> sum_j w_ij s_j
Back = Callable[[Tensor], Tensor]


class Rules(ChainMap[type[nn.Module], Rule]):
    """Rules by module type. A child has rules of its own and falls back on its parent's.

    Parameters
    ----------
    *maps : mutable mappings
        From a module's type to its rule; rules are registered in the first.
    head : callable, optional
        The rule of the last linear layer, where it has another than the rest; its kappa is 0, as in all operations
        above it.
    folds : bool
        Whether a batch norm and the linear layer before it are one layer.
    bilinear : bool
        Whether attention's weights take relevance too; else they are constants.
    """

    def __init__(
        self,
        *maps: MutableMapping[type[nn.Module], Rule],
        head: Rule | None = None,
        folds: bool = False,
        bilinear: bool = False,
    ) -> None:
        super().__init__(*maps)
        self.head, self.folds, self.bilinear = head, folds, bilinear

    def rule(
        self,
        *modules: type[nn.Module],
        keeps_inputs: bool = True,
        where: Callable[[Any], bool] | None = None,
    ) -> Callable[[Rule], Rule]:
        """Register a relevance rule for module types, built-in or your own.

        Parameters
        ----------
        *modules : types
            The module types that it is for.
        keeps_inputs : bool
            False when the rule does not look at `step.inputs`, so that they need not be stored.
        where : callable, optional
            Which modules of these types it holds for; the others are refused.

        Returns
        -------
        callable
            A decorator for a function of a `Step` and all flows, a sequence of `Flow`. The function gives, for each
            flow, a tuple with the relevance of each input, None for one that gets none.

        Raises
        ------
        RapbenchError
            For a function that does not take (step, flows).

        Examples
        --------
        ::

            @rapbench.relevance.rule(MyScale)
            def my_scale(step, flows):
                return [(flow.relevance,) for flow in flows]
        """

        def enter(function: Rule) -> Rule:
            _refuse_other_arguments(function)
            for module in modules:
                self[module] = function
            if not keeps_inputs:
                _FORGETFUL.add(function)
            if where is not None:
                _CONDITIONS[function] = where
            return function

        return enter

    def knows(self, module: nn.Module) -> bool:
        """Whether there is a rule for a module as it is set up."""
        rule = self.get(type(module))
        return rule is not None and (rule not in _CONDITIONS or _CONDITIONS[rule](module))

    def needs_inputs(self, module: nn.Module) -> bool:
        """Whether the rule for a module looks at the activations it was given."""
        return self[type(module)] not in _FORGETFUL


def _refuse_other_arguments(function: Rule) -> None:
    """Raise RapbenchError for a function that cannot be called as a rule."""
    try:
        inspect.signature(function).bind(None, ())
    except TypeError as error:
        name = getattr(function, "__qualname__", repr(function))
        raise RapbenchError(f"a relevance rule takes (step, flows), {name} does not: {error}") from error


_FORGETFUL: set[Rule] = set()
_CONDITIONS: dict[Rule, Callable[[Any], bool]] = {}
RULES = Rules()
rule = RULES.rule


def transpose(apply: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Back]:
    """Return a linear map's value at x and the map from an output-shaped tensor to `sum_j w_ij s_j`, shaped like x."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        value = apply(x)

    def back(s: Tensor) -> Tensor:
        return torch.autograd.grad(value, x, s, retain_graph=True)[0]

    return value.detach(), back
