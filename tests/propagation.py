"""Every method's relevance in a small network, worked out from its definition alone: plain autograd in float64.

What kind of operation a case is, and so which reference it has, is measured on the operation itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tests.operations import Case

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = {
    nn.ConvTranspose1d: F.conv_transpose1d,
    nn.ConvTranspose2d: F.conv_transpose2d,
    nn.ConvTranspose3d: F.conv_transpose3d,
}
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
NORMS = nn.modules.batchnorm._BatchNorm


class Refused(Exception):
    """There is no right value: the method must say that it cannot handle the operation."""


class Unknown(Exception):
    """This reference does not know the value."""


# What an operation is


@dataclass(frozen=True)
class Kind:
    """What an operation was measured to be.

    of_image: an image's result depends neither on the others nor on chance. differentiable: autograd goes through.
    sources: where each output depends on one input at most, as behind an activation, a constant or a move, the matrix
    (outputs, inputs) of what depends on what; else None. affine: in its input. selection: each output is one of the
    inputs, as in max pooling. rectifier: "ReLU" or "ReLU6", where it computes that.
    """

    of_image: bool
    differentiable: bool = True
    sources: Tensor | None = None
    affine: bool = False
    selection: bool = False
    rectifier: str = ""

    @property
    def nonlinear(self) -> bool:
        """Whether it is an activation function of some sort."""
        return self.sources is not None and not self.affine


class Attached(TorchFunctionMode):
    """`detach` and `.data` give the tensor itself: they are no part of the function that a model computes."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cuts = (torch.detach, Tensor.detach, Tensor.data.__get__)  # type: ignore[attr-defined]
        return args[0].clone() if func in cuts else func(*args, **(kwargs or {}))


def kind_of(module: nn.Module, like: Tensor, positive: bool = False) -> Kind:
    """Measure an operation at random inputs like (2, ...); positive: at this one, and above it."""

    def op(h: Tensor) -> Tensor:
        return _attached(module, h)

    h = like.detach() if positive else torch.randn(like.shape, generator=_seeded(2)).to(like)
    other = h + torch.rand(h.shape, generator=_seeded(3)).to(h)
    with torch.no_grad():
        y = op(h)
        if not _of_image(op, h, y):
            return Kind(False)
        # constants drop out of differences
        rise = op(other) - y
        affine = _close(op((h + other) / 2), y + rise / 2) and _close(op(h + 2 * (other - h)), y + 2 * rise)
        affine = affine and bool(rise.any())  # what is saturated everywhere looks so
        sources = _sources(op, h[:1])
        candidates = {"ReLU": F.relu, "ReLU6": F.relu6}
        rectifier = "ReLU" if isinstance(module, nn.ReLU) else ""
        if y.shape == h.shape and sources is not None and not affine:
            same = [name for name, function in candidates.items()
                    if _close(y, function(h)) and _close(op(9 * h), function(9 * h))]  # fmt: skip
            rectifier = same[0] if same else rectifier
    x = h[:1].clone().requires_grad_()
    try:
        out = op(x)
        torch.autograd.grad(out.sum(), x)
    except RuntimeError:
        return Kind(True, False, sources, affine)
    selection = False
    if sources is None and not affine:
        jacobian = torch.autograd.functional.jacobian(op, h[:1]).reshape(out.numel(), -1)
        selection = bool(((jacobian == 0) | (jacobian == 1)).all() and (jacobian.sum(1) <= 1).all())
        selection = selection and _close(jacobian @ h[0].flatten(), out.detach().flatten())
    return Kind(True, True, sources, affine and not rectifier, selection, rectifier)


def _of_image(op: Callable[[Tensor], Tensor], h: Tensor, y: Tensor) -> bool:
    if not all(_close(y, op(h)) for _ in range(5)):
        return False
    try:
        alone = op(h[:1])
    except (RuntimeError, IndexError):
        return False
    return len(y) == len(h) and alone.numel() == y[:1].numel() and _close(alone.reshape(y[:1].shape), y[:1])


def _sources(op: Callable[[Tensor], Tensor], h: Tensor) -> Tensor | None:
    """Return which outputs each input moves, (outputs, inputs), unless an output has several."""
    count = h.numel()
    steps = torch.eye(count, dtype=h.dtype).view(count, *h.shape[1:])
    try:  # values may leave what the operation takes, or saturate: any difference counts
        moved = [op(h + step * steps) - op(h) for step in (0.3, 1.0, 10.0, -10.0)]
    except RuntimeError:  # made for two images
        return None
    depends = sum((change.abs() > 1e-12).flatten(1) for change in moved).bool().T  # type: ignore[union-attr]
    return depends if bool((depends.sum(1) <= 1).all()) else None


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def _seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Rules of LRP's kind: from the relevance of a layer's outputs to that of its inputs

# (layer, its inputs, weight, bias, relevance of its outputs) -> relevance of its inputs
Rule = Callable[[Any, Tensor, Tensor, Tensor | None, Tensor], Tensor]


def apply(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A layer's map with other weights; what is no layer is attention, with its weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, CONVOLUTIONS):
        return layer._conv_forward(x, weight, bias)
    if not isinstance(layer, tuple(TRANSPOSED)):
        return weight @ x
    function: Any = next(function for kind, function in TRANSPOSED.items() if isinstance(layer, kind))
    return function(x, weight, bias, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)


def shared(terms: Callable[[Tensor], Tensor], x: Tensor, relevance: Tensor, stabilizer: float) -> Tensor:
    """x_i times the derivative of `terms` by it, each output weighed by its relevance over its value."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        total = terms(x)
        over = total.detach() + stabilizer * torch.where(total >= 0, 1.0, -1.0)
        ratio = torch.where(over == 0, 0, relevance / torch.where(over == 0, 1, over))
        (derivative,) = torch.autograd.grad(total, x, ratio)
    return x.detach() * derivative


def alpha_beta(alpha: float, stabilizer: float, *, bias: bool = True, signs: tuple[int, ...] = (1, -1)) -> Rule:
    """alpha z+ / (sum z+ + b+) - (alpha - 1) z- / (sum z- + b-); signs (-1,): z- / sum z- alone."""

    def rule(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, relevance: Tensor) -> Tensor:
        handed = torch.zeros_like(x)
        for sign in signs:
            factor = 1.0 if len(signs) == 1 else alpha if sign > 0 else 1 - alpha
            same, opposite = (weight * (weight * sign * by > 0) for by in (1, -1))
            added = None if b is None or not bias else b * (b * sign > 0)

            def terms(x: Tensor, same: Any = same, opposite: Any = opposite, added: Any = added) -> Tensor:
                up, down = x * (x > 0), x * (x < 0)
                return apply(layer, up, same, added) + apply(layer, down, opposite, None)

            handed = handed + factor * shared(terms, x, relevance, stabilizer) if factor else handed
        return handed

    return rule


def epsilon(stabilizer: float) -> Rule:
    """z / (z + stabilizer * sign(z)), with the bias in z."""

    def rule(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, relevance: Tensor) -> Tensor:
        return shared(lambda x: apply(layer, x, weight, b), x, relevance, stabilizer)

    return rule


def gamma(value: float) -> Rule:
    """Products of the output's sign 1 + value times as large, and the bias of that sign."""

    def rule(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, relevance: Tensor) -> Tensor:
        output, handed = apply(layer, x, weight, b), torch.zeros_like(x)
        for sign in (1, -1):
            same, opposite = (weight * torch.where(weight * sign * by > 0, 1 + value, 1) for by in (1, -1))
            added = None if b is None else b * torch.where(b * sign > 0, 1 + value, 1)

            def terms(x: Tensor, same: Any = same, opposite: Any = opposite, added: Any = added) -> Tensor:
                return apply(layer, x * (x > 0), same, added) + apply(layer, x * (x < 0), opposite, None)

            handed = handed + shared(terms, x, relevance * (output * sign > 0), 1e-6)
        return handed

    return rule


def flat(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, relevance: Tensor) -> Tensor:
    """The same to all inputs of an output."""
    return shared(lambda x: apply(layer, x, torch.ones_like(weight), None), torch.ones_like(x), relevance, 1e-6)


def zbox(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, relevance: Tensor) -> Tensor:
    """z^B between each image's own bounds."""
    low, high = (end(x, tuple(range(1, x.dim())), keepdim=True) for end in (torch.amin, torch.amax))

    def terms(both: Tensor) -> Tensor:
        return apply(layer, both[0], weight.clamp(min=0), None) + apply(layer, both[1], -weight.clamp(max=0), None)

    return shared(terms, torch.stack([x - low, high - x]), relevance, 1e-6).sum(0)


@dataclass(frozen=True)
class Propagation:
    """A method of LRP's kind.

    convolution, dense: its rules. first: that of the first layer, where it is another. stabilizer: of what shares in
    proportion: sums, averages and norms by the sample's own statistics, unless those pass relevance on, as `norm` may
    say. norm: whether a batch norm is folded into the layer before, passes relevance on, or is a layer with the rule of
    proportion. flat: whether resizing hands on relevance by its weights alone.
    """

    convolution: Rule
    dense: Rule
    stabilizer: float
    norm: Literal["folded", "passes", "layer"]
    flat: bool = True
    first: Rule | None = None


def _lrp(convolution: Rule, dense: Rule, first: Rule | None = None) -> Propagation:
    return Propagation(convolution, dense, 1e-6, "folded", first=first)


def _rap(sign: int) -> Propagation:
    rule = alpha_beta(1, 0.0, bias=False, signs=(sign,))
    return Propagation(rule, rule, 0.0, "passes")


A1B0, A2B1, EPSILON, SMALL, GAMMA = alpha_beta(1, 1e-6), alpha_beta(2, 1e-6), epsilon(0.1), epsilon(1e-6), gamma(0.25)
LRP = {
    "lrp": _lrp(A1B0, EPSILON),
    "lrp_gamma": _lrp(GAMMA, GAMMA),
    "lrp_epsilon_plus": _lrp(A1B0, SMALL),
    "lrp_epsilon_plus_flat": _lrp(A1B0, SMALL, flat),
    "lrp_epsilon_alpha2_beta1": _lrp(A2B1, SMALL),
    "lrp_epsilon_alpha2_beta1_flat": _lrp(A2B1, SMALL, flat),
    "lrp_epsilon_gamma_box": _lrp(GAMMA, SMALL, zbox),
    "lrp_a1b0": _lrp(A1B0, A1B0),
    "lrp_a2b1": _lrp(A2B1, A2B1),
    "lrp_alpha_beta": _lrp(A2B1, A2B1),
    "lrp_epsilon": _lrp(EPSILON, EPSILON),
    "lrp_preset_a": _lrp(A1B0, EPSILON),
    "lrp_preset_b": _lrp(A2B1, EPSILON),
    "attnlrp": _lrp(SMALL, SMALL),
    "captum_lrp": Propagation(epsilon(1e-9), epsilon(1e-9), 1e-9, "layer", flat=False),
}
# AttnLRP's own rules are held in tests/test_transformers.py; here their sum.
ATTNLRPS = ("nn.Softmax", "F.softmax", "a @ b", "torch.bmm", "F.scaled_dot_product_attention", "softmax(a @ b) @ c")
# Of `rap` what is below its start, without what it adds for biases and norms.
RAP = {"normal": _rap(1), "inversion": _rap(-1)}
RAP_OPTIONS = {"bias_correction": False, "batchnorm_correction": False, "input_rule": "same_as_hidden"}


# The reference


@dataclass(frozen=True)
class Layer:
    """One step of a network: its module, what it was measured to be, its inputs and its outputs."""

    module: Any
    kind: Kind
    x: Tensor
    y: Tensor


class Reference:
    """A case's network, with the relevance that each method must give for `x` and `targets`."""

    def __init__(self, case: Case):
        self.case, self.network, self.x = case, case.network(), case.images()
        op: Any = self.network.op
        inner = case.plain(op) if case.plain else list(op) if isinstance(op, nn.Sequential) else [op]
        if case.head:
            inner = [*inner, nn.Flatten()]
        modules = [self.network.first, *inner, self.network.act, *([] if case.head else [nn.Flatten()]),
                   self.network.head]  # fmt: skip
        self.layers: list[Layer] = []
        h = self.x
        for module in modules:
            kind = kind_of(module, h, case.positive)
            with torch.no_grad():
                y = module(h.clone())
            self.layers.append(Layer(module, kind, h, y))
            h = y
        with torch.no_grad():
            assert case.plain is None or _close(h, self.network(self.x)), case.name
            for layer in self.layers:
                if layer.module is op and case.norm:
                    assert _close(case.norm(layer.x, op), layer.y), case.name
                if layer.module is op and case.attention:
                    assert _close(case.attention(layer.x) @ layer.x, layer.y), case.name
        self.targets = torch.tensor([1, 3]) % h.shape[1]

    def relevance(self, method: str) -> Tensor | None:
        """Return what a method must give; None where no more than its sum is known.

        Raises Refused where the method must refuse, Unknown where this reference does not know.
        """
        if not all(layer.kind.of_image for layer in self.layers):
            raise Refused
        match method:
            case "sensitivity" | "smoothgrad":  # without noise
                return self.gradient(self.x).abs()
            case "gradient_x_input":
                return self.gradient(self.x) * self.x
            case "integrated_gradients":
                return self._path()
            case "guided_backprop" | "deconvolution":
                return self._rectified(RECTIFIED[method])
            case "smoothgrad_squared":
                return self.gradient(self.x) ** 2
            case "deeplift" | "deeplift_shap":
                return self._deeplift()
            case "pattern_net" | "pattern_attribution":  # with trivial patterns
                logits = self.logits(self.x)
                return self.gradient(self.x) * logits.view(-1, *[1] * (self.x.dim() - 1))
            case "rap":
                return self._rap(RAP["normal"]) + self._rap(RAP["inversion"])
            case "rap_aaai":
                self._rap(RAP["normal"])
                return None
            case "attnlrp" if self.case.name in ATTNLRPS:
                return None
        return self._lrp(LRP[method])

    def logits(self, x: Tensor) -> Tensor:
        """Return the targets' logits."""
        with torch.no_grad():
            return self._logits(self.network(x))

    def _logits(self, logits: Tensor) -> Tensor:
        return logits.gather(1, self.targets[:, None])[:, 0]

    def gradient(self, x: Tensor, forward: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Of the target logits that `forward` gives, or the network."""
        forward = forward or (lambda x: _attached(self.network, x))
        x = x.clone().requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(self._logits(forward(x)).sum(), x)
        except RuntimeError as error:  # torch has no derivative
            raise Refused from error
        return gradient

    def _path(self, steps: int = 2) -> Tensor:
        points, weights = np.polynomial.legendre.leggauss(steps)
        places = zip((points + 1) / 2, weights / 2, strict=True)
        return self.x * sum((w * self.gradient(a * self.x) for a, w in places), torch.zeros(()))

    def _rectified(self, rule: Any) -> Tensor:
        def forward(h: Tensor) -> Tensor:
            for layer in self.layers:
                if layer.kind.rectifier:
                    h = rule.apply(h)
                    h = h.clamp(max=6) if layer.kind.rectifier == "ReLU6" else h
                elif layer.kind.nonlinear:
                    raise Refused
                else:
                    h = _attached(layer.module, h)
            return h

        if not any(layer.kind.rectifier for layer in self.layers):
            raise Refused
        return self.gradient(self.x, forward)

    def _deeplift(self) -> Tensor | None:
        """The rescale rule against zeros; through a selection it is known by its sum alone."""
        if any(not (layer.kind.affine or layer.kind.sources is not None or layer.kind.selection)
               for layer in self.layers):  # fmt: skip
            raise Refused

        def forward(h: Tensor) -> Tensor:
            h0 = torch.zeros_like(h)
            for layer in self.layers:
                with torch.no_grad():
                    before, h0 = h0, layer.module(h0.clone())
                y = _attached(layer.module, h)
                if layer.kind.nonlinear and y.shape == h.shape:
                    y, rise = y.detach(), h.detach() - before
                    scaled = h * torch.where(rise == 0, 0, (y - h0) / torch.where(rise == 0, 1, rise))
                    y = y + scaled - scaled.detach()
                h = y
            return h

        relevance = self.x * self.gradient(self.x, forward)
        exact = all(layer.kind.affine or (layer.kind.nonlinear and layer.x.shape == layer.y.shape)
                    for layer in self.layers)  # fmt: skip
        return relevance if exact else None

    # LRP and RAP

    def _lrp(self, method: Propagation) -> Tensor:
        self._refuse_other_than_logits()
        logits = self.layers[-1].y
        return self._propagated(torch.where(_one_hot(self.targets, logits), logits, 0.0), self.layers, method)

    def _rap(self, method: Propagation) -> Tensor:
        self._refuse_other_than_logits()
        head, features = self.layers[-1].module, self.layers[-1].x
        if not isinstance(head, nn.Linear):
            self._propagated(torch.zeros_like(self.layers[-1].y), self.layers, method)
            raise Unknown
        z = features * head.weight.detach()[self.targets]
        up, down = z.clamp(min=0), z.clamp(max=0)
        shares = up / up.sum(1, keepdim=True).clamp(min=1e-30) - down / down.sum(1, keepdim=True).clamp(max=-1e-30)
        return self._propagated(shares * self.logits(self.x)[:, None], self.layers[:-1], method)

    def _signal(self, x: Tensor) -> Tensor:
        assert self.case.signal is not None
        op: Any = self.network.op
        return self.case.signal(x, op) if op._modules else self.case.signal(x)

    def _norm(self, x: Tensor) -> Tensor:
        assert self.case.norm is not None
        return self.case.norm(x, self.network.op)

    def _refuse_other_than_logits(self) -> None:
        """Refuse a network whose last values are a function of logits, such as probabilities."""
        for layer in reversed(self.layers):
            if isinstance(layer.module, LAYERS):
                return
            if not (layer.kind.affine or layer.kind.selection or layer.kind.rectifier):
                raise Refused

    def _propagated(self, relevance: Tensor, layers: list[Layer], method: Propagation) -> Tensor:
        """Take relevance from the outputs of the last of some layers to the inputs of the first."""
        case = self.case
        for layer in layers:
            kind = layer.kind
            if layer.module is self.network.op and method.norm != "layer":
                if case.branches:
                    raise Unknown
                if case.signal or case.norm or case.attention:
                    continue
            if not (kind.affine or kind.selection or kind.sources is not None):
                raise Refused
        norm = None
        for layer, before in reversed(list(zip(layers, [None, *layers[:-1]], strict=True))):
            module, kind = layer.module, layer.kind
            if isinstance(module, LAYERS):
                weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
                if norm is not None:
                    weight, bias = folded(module, norm)
                    norm = None
                rule = method.dense if isinstance(module, nn.Linear) else method.convolution
                if method.first and layer is next(it for it in self.layers if isinstance(it.module, LAYERS)):
                    rule = method.first
                relevance = rule(module, layer.x, weight, bias, relevance)
            elif (
                method.norm == "folded"
                and isinstance(module, NORMS)
                and before is not None
                and isinstance(before.module, LAYERS)
                and _is_foldable(before, layer)
            ):
                norm = module
            elif case.signal and module is self.network.op:
                relevance = shared(self._signal, layer.x, relevance, 0.0)
            elif case.norm and module is self.network.op:
                if method.norm != "passes":
                    relevance = shared(self._norm, layer.x, relevance, method.stabilizer)
            elif case.attention and module is self.network.op:
                relevance = method.dense(module, layer.x, case.attention(layer.x), None, relevance)
            elif case.flat and method.flat and module is self.network.op:
                ones = torch.ones_like(layer.x)  # the outputs' weights, which sum to 1
                relevance = shared(lambda x: module(x), ones, relevance * module(ones), 0.0)  # noqa: B023
            elif kind.sources is not None and not (method.norm == "layer" and kind.affine and kind.differentiable):
                outputs = relevance.flatten(1)
                relevance = (outputs @ kind.sources.to(outputs)).view(layer.x.shape)
            else:
                if not kind.differentiable:
                    raise Refused
                stabilizer = 0.0 if kind.selection else method.stabilizer
                relevance = shared(lambda x: _attached(module, x), layer.x, relevance, stabilizer)  # noqa: B023
        return relevance


def _attached(module: nn.Module, x: Tensor) -> Tensor:
    with Attached():
        return module(x.clone())


def _one_hot(targets: Tensor, logits: Tensor) -> Tensor:
    return F.one_hot(targets, logits.shape[1]).bool()


def _is_foldable(layer: Layer, norm: Layer) -> bool:
    """Whether the norm scales the layer's units: of a fully connected layer those are the last axis."""
    return not isinstance(layer.module, nn.Linear) or norm.x.dim() == 2


def folded(layer: Any, norm: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer and the norm after it, together."""
    weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
    scale = 1 / (norm.running_var + norm.eps).sqrt()
    shift = -norm.running_mean * scale
    if norm.weight is not None:
        scale, shift = scale * norm.weight.detach(), shift * norm.weight.detach() + norm.bias.detach()
    if isinstance(layer, tuple(TRANSPOSED)):  # (in, out / groups, ...), the outputs of group after group
        grouped = weight.unflatten(0, (layer.groups, -1))
        by = scale.view(layer.groups, 1, -1, *[1] * (weight.dim() - 2))
        weight = (grouped * by).flatten(0, 1)
    else:
        weight = weight * scale.view(-1, *[1] * (weight.dim() - 1))
    return weight, shift if bias is None else bias * scale + shift


class _Guided(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (x,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * (x > 0)


class _Deconvolved(_Guided):
    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].clamp(min=0)


RECTIFIED = {"guided_backprop": _Guided, "deconvolution": _Deconvolved}
