"""Every method's relevance in a small network, worked out from its definition alone: plain autograd in float64.

LRP is written as gradient times input of a network whose layers are changed: where a layer hands on the shares
q_ij / sum_i q_ij, it computes q's sum times the constant ratio of its value to that sum. What kind of operation a case
is, and so which reference it has, is measured on the operation itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.operations import Case

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = {nn.ConvTranspose1d: F.conv_transpose1d, nn.ConvTranspose2d: F.conv_transpose2d,
              nn.ConvTranspose3d: F.conv_transpose3d}  # fmt: skip
LAYERS = (nn.Linear, *CONVOLUTIONS, *TRANSPOSED)
NORMS = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Kind:
    """What an operation is, measured.

    of_image: an image's result depends neither on the others nor on chance. differentiable: autograd goes through.
    elementwise: each output depends on the input in its place alone. affine: in its input. selection: each output is
    one of the inputs, as in max pooling. rectifier: "ReLU" or "ReLU6", where it computes that. cuts: it is affine, and
    autograd's derivative is another, as behind `detach`.
    """

    of_image: bool
    differentiable: bool
    elementwise: bool
    affine: bool
    selection: bool
    rectifier: str
    cuts: bool


def kind_of(module: nn.Module, like: Tensor, positive: bool = False) -> Kind:
    """Measure an operation at random inputs like (2, ...); positive: at this one, and above it."""

    def op(h: Tensor) -> Tensor:
        return module(h.clone())  # it may work in place

    h = like.detach() if positive else torch.randn(like.shape, generator=torch.Generator().manual_seed(2)).to(like)
    with torch.no_grad():
        y = op(h)
        of_image = all(torch.equal(y, op(h)) or _close(y, op(h)) for _ in range(5))
        try:
            alone = op(h[:1])
            of_image = of_image and alone.numel() == y[:1].numel() and _close(alone.reshape(y[:1].shape), y[:1])
        except (RuntimeError, IndexError):
            of_image = False
        if not of_image:
            return Kind(False, True, False, False, False, "", False)
        other = h + torch.rand(h.shape, generator=torch.Generator().manual_seed(3)).to(h)
        # constants drop out of differences
        affine = _close(op((h + other) / 2), (y + op(other)) / 2) and _close(op(h + 2 * (other - h)) - y,
                                                                          2 * (op(other) - y))  # fmt: skip
        rise = op(other) - y
        elementwise = y.shape == h.shape and _elementwise(op, h[:1])
        rectifier = next(
            (name for name, function in (("ReLU", F.relu), ("ReLU6", F.relu6))
             if elementwise and not affine and _close(op(9 * h), function(9 * h))),
            "ReLU" if isinstance(module, nn.ReLU) else "",
        )  # fmt: skip
    x = h[:1].clone().requires_grad_()
    try:
        out = op(x)
        torch.autograd.grad(out.sum(), x)
        differentiable = True
    except RuntimeError:
        differentiable = False
    selection = False
    if differentiable and not elementwise:
        jacobian = torch.autograd.functional.jacobian(op, h[:1], vectorize=False).reshape(out.numel(), -1)
        ones = (jacobian == 1).sum(1)
        selection = bool((ones <= 1).all() and ((jacobian == 0).sum(1) + ones == jacobian.shape[1]).all())
        selection = selection and _close(jacobian @ h[0].flatten(), out.detach().flatten())
    affine = affine and not rectifier
    cuts = affine and not (differentiable and _derives(op, h, other - h, rise))
    return Kind(True, differentiable, elementwise, affine, selection, rectifier, cuts)


def _derives(op: Callable[[Tensor], Tensor], h: Tensor, step: Tensor, rise: Tensor) -> bool:
    """Whether autograd's derivative of an affine operation tells how much a step raises it."""
    x = h.clone().requires_grad_()
    along = torch.randn(rise.shape, generator=torch.Generator().manual_seed(4)).to(h)
    (gradient,) = torch.autograd.grad((op(x) * along).sum(), x)
    return _close((gradient * step).sum(), (rise * along).sum())


def _elementwise(op: Callable[[Tensor], Tensor], h: Tensor) -> bool:
    count = h.numel()
    steps = torch.eye(count, dtype=h.dtype).view(count, *h.shape[1:])
    changed = (op(h + steps) - op(h)).abs().flatten(1) > 1e-12
    return bool((changed <= steps.flatten(1).bool()).all())


def _close(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-9)


def apply(layer: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A layer's map with other weights."""
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    if isinstance(layer, CONVOLUTIONS):
        return layer._conv_forward(x, weight, bias)
    function: Any = next(function for kind, function in TRANSPOSED.items() if isinstance(layer, kind))
    return function(x, weight, bias, layer.stride, layer.padding, layer.output_padding, layer.groups, layer.dilation)


def carry(value: Tensor, terms: Tensor, total: Tensor | None = None, *, scale: bool = False) -> Tensor:
    """`value`, whose gradient goes to `terms` times value / total, without a total value / terms.

    scale: `total` is that factor itself.
    """
    over = (terms if total is None else total).detach()
    factor = over if scale else torch.where(over == 0, 0, value.detach() / torch.where(over == 0, 1, over))
    scaled = terms * factor
    return value.detach() + scaled - scaled.detach()


# (layer, its input, weight, bias, value) -> value with the relevance of a rule
Rule = Callable[[Any, Tensor, Tensor, Tensor | None, Tensor], Tensor]


def alpha_beta(alpha: float, *, bias: bool = True, swapped: bool = False) -> Rule:
    """alpha (sum of z+ / (sum z+ + b+)) - (alpha - 1) (the same of z-); swapped: of z- alone."""

    def rule(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, value: Tensor) -> Tensor:
        up, down = x.clamp(min=0), x.clamp(max=0)
        more, less = weight.clamp(min=0), weight.clamp(max=0)
        some = b if bias else None
        plus = apply(layer, up, more, None if some is None else some.clamp(min=0)) + apply(layer, down, less, None)
        minus = apply(layer, up, less, None if some is None else some.clamp(max=0)) + apply(layer, down, more, None)
        if swapped:
            return carry(value, minus)
        beta = alpha - 1
        a = carry(value, plus)
        return a if beta == 0 else alpha * a - beta * carry(value, minus)

    return rule


def epsilon(stabilizer: float) -> Rule:
    """z / (z + stabilizer * sign(z)), with the bias in z."""

    def rule(layer: Any, x: Tensor, weight: Tensor, b: Tensor | None, value: Tensor) -> Tensor:
        z = apply(layer, x, weight, b)
        return carry(value, z, z + stabilizer * z.detach().sign())

    return rule


RULES: dict[str, tuple[Rule, Rule]] = {  # of convolutions and of fully connected layers
    "lrp_a1b0": (alpha_beta(1), alpha_beta(1)),
    "lrp_a2b1": (alpha_beta(2), alpha_beta(2)),
    "lrp_alpha_beta": (alpha_beta(2), alpha_beta(2)),
    "lrp_epsilon": (epsilon(0.1), epsilon(0.1)),
    "lrp_preset_a": (alpha_beta(1), epsilon(0.1)),
    "lrp_preset_b": (alpha_beta(2), epsilon(0.1)),
    "captum_lrp": (epsilon(1e-9), epsilon(1e-9)),
}
# What the relevance of `rap` below its start is, without what it adds for biases and norms.
RAP_FLOWS = {"normal": alpha_beta(1, bias=False), "inversion": alpha_beta(1, bias=False, swapped=True)}
RAP_OPTIONS = {"bias_correction": False, "batchnorm_correction": False, "input_rule": "same_as_hidden"}


class Refused(Exception):
    """There is no right value: the method must say that it cannot handle the operation."""


class Unknown(Exception):
    """This reference does not know the value."""


@dataclass(frozen=True)
class Layer:
    """One step of a network, and what it was measured to be; value: what it gives."""

    module: Any
    kind: Kind
    value: Tensor


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
                h = module(h.clone())
            self.layers.append(Layer(module, kind, h))
        with torch.no_grad():
            assert case.plain is None or _close(h, self.network(self.x)), case.name
        self.targets = torch.tensor([1, 3]) % h.shape[1]

    def relevance(self, method: str) -> Tensor | None:
        """Return what a method must give; None where no more than its sum is known.

        Raises Refused where the method must refuse, Unknown where this reference does not know.
        """
        if not all(layer.kind.of_image for layer in self.layers):
            raise Refused
        match method:
            case "sensitivity" | "smoothgrad":  # without noise
                return self.gradient(self.x, self.network).abs()
            case "gradient_x_input":
                return self.gradient(self.x, self.network) * self.x
            case "integrated_gradients":
                return self._path()
            case "guided_backprop" | "deconvolution":
                return self._rectified(GUIDED[method])
            case "deeplift":
                return self._deeplift()
            case "pattern_net" | "pattern_attribution":  # with trivial patterns
                logits = self.logits(self.x)
                return self.gradient(self.x, self.network) * logits.view(-1, *[1] * (self.x.dim() - 1))
            case "rap":
                return self._rap(RAP_FLOWS["normal"]) + self._rap(RAP_FLOWS["inversion"])
            case "rap_aaai":
                self._rap(RAP_FLOWS["normal"])
                return None
        return self._lrp(method)

    def logits(self, x: Tensor) -> Tensor:
        """Return the targets' logits."""
        with torch.no_grad():
            return self._logits(self.network(x))

    def _logits(self, logits: Tensor) -> Tensor:
        return logits.gather(1, self.targets[:, None])[:, 0]

    def gradient(self, x: Tensor, forward: Callable[[Tensor], Tensor]) -> Tensor:
        """Of the target logits."""
        x = x.clone().requires_grad_()
        try:
            (gradient,) = torch.autograd.grad(self._logits(forward(x)).sum(), x)
        except RuntimeError as error:  # it is detached, or torch has no derivative
            raise Refused from error
        return gradient

    def _path(self, steps: int = 2) -> Tensor:
        points, weights = np.polynomial.legendre.leggauss(steps)
        places = zip((points + 1) / 2, weights / 2, strict=True)
        return self.x * sum((w * self.gradient(a * self.x, self.network) for a, w in places), torch.zeros(()))

    def _rectified(self, rule: Any) -> Tensor:
        def forward(h: Tensor) -> Tensor:
            for layer in self.layers:
                if layer.kind.rectifier:
                    h = rule.apply(h)
                    h = h.clamp(max=6) if layer.kind.rectifier == "ReLU6" else h
                elif layer.kind.cuts or (layer.kind.elementwise and not layer.kind.affine):
                    raise Refused
                else:
                    h = layer.module(h.clone())
            return h

        if not any(layer.kind.rectifier for layer in self.layers):
            raise Refused
        return self.gradient(self.x, forward)

    def _deeplift(self) -> Tensor | None:
        """The rescale rule against zeros; through a selection it is known by its sum alone."""
        known = True

        def forward(h: Tensor) -> Tensor:
            nonlocal known
            h0 = torch.zeros_like(h)
            for layer in self.layers:
                with torch.no_grad():
                    before, h0 = h0, layer.module(h0.clone())
                if layer.kind.elementwise:
                    rise = h.detach() - before
                    y = layer.module(h.clone()).detach()
                    h = carry(y, h, torch.where(rise == 0, 0, (y - h0) / torch.where(rise == 0, 1, rise)), scale=True)
                else:
                    if not (layer.kind.affine or layer.kind.selection):
                        raise Refused
                    known = known and layer.kind.affine
                    h = layer.module(h.clone())
            return h

        relevance = self.x * self.gradient(self.x, forward)
        return relevance if known else None

    # LRP and RAP

    def _propagated(self, x: Tensor, layers: list[Layer], rule_of: Callable[[Any], Rule], fold: bool,
                    own_norm: bool = False) -> Tensor:  # fmt: skip
        """The layers' value, with the relevance of a method.

        fold: whether a norm right after a layer is worked into it, else norms pass relevance on. own_norm: whether
        norms are layers themselves.
        """
        h = x
        done = False
        for layer, after in zip(layers, [*layers[1:], None], strict=True):
            module, kind = layer.module, layer.kind
            if done:
                done = False
            elif isinstance(module, LAYERS):
                weight, bias = module.weight.detach(), None if module.bias is None else module.bias.detach()
                if fold and after is not None and isinstance(after.module, NORMS):
                    weight, bias = folded(module, after.module)
                    done = True
                h = rule_of(module)(module, h, weight, bias, apply(module, h, weight, bias))
            elif kind.elementwise and not (own_norm and kind.affine):
                h = carry(module(h.clone()), h, h)
            elif kind.differentiable and (kind.affine or kind.selection or kind.elementwise):
                h = module(h.clone())
            else:
                raise Refused
        return h

    def _lrp(self, method: str) -> Tensor:
        convolution, dense = RULES[method]
        captum = method == "captum_lrp"

        def rule_of(layer: Any) -> Rule:
            return dense if isinstance(layer, nn.Linear) else convolution

        self._refuse_other_than_logits()
        return self.x * self.gradient(
            self.x, lambda x: self._propagated(x, self.layers, rule_of, fold=not captum, own_norm=captum)
        )

    def _refuse_other_than_logits(self) -> None:
        """Refuse a network whose last values are a function of logits, such as probabilities."""
        for layer in reversed(self.layers):
            if isinstance(layer.module, LAYERS):
                return
            if not (layer.kind.affine or layer.kind.selection or layer.kind.rectifier):
                raise Refused

    def _rap(self, rule: Rule) -> Tensor:
        head = self.layers[-1].module
        if not isinstance(head, nn.Linear):
            self._refuse_other_than_logits()
            raise Unknown
        x = self.x.clone().requires_grad_()
        features = self._propagated(x, self.layers[:-1], lambda layer: rule, fold=False)
        z = features.detach() * head.weight.detach()[self.targets]
        logits = head(features.detach()).gather(1, self.targets[:, None])
        up, down = z.clamp(min=0), z.clamp(max=0)
        start = (up / up.sum(1, keepdim=True) - down / down.sum(1, keepdim=True)) * logits
        ratio = torch.where(features == 0, 0, start / torch.where(features == 0, 1, features)).detach()
        return (self.x * torch.autograd.grad(features, x, ratio)[0]).detach()


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


GUIDED = {"guided_backprop": _Guided, "deconvolution": _Deconvolved}
