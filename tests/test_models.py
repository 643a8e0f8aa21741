"""Kinds of model by every method: the value is that of the same network written plainly, or one line what to do."""

import copy
import re
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

import rapbench
from rapbench.methods import methods
from rapbench.model.modules import explainable
from rapbench.patterns import estimate, save
from tests.options import FOR_TRANSFORMERS, QUICK_METHODS, mostly_quick

LOOKS = [name for name in methods if methods[name].facts.looks_at_model and name not in FOR_TRANSFORMERS]
# Methods that ask for logits and their gradients alone, or for logits alone, and need no graph of the network.
GRADIENTS = (
    "sensitivity", "gradient_x_input", "integrated_gradients", "smoothgrad", "smoothgrad_squared", "vargrad",
    "gradient_shap", "grad_cam", "grad_cam_plusplus", "smooth_grad_cam_plusplus", "layer_cam", "xgrad_cam",
)  # fmt: skip
LOGITS = ("kernel_shap", "shapley_sampling", "occlusion", "feature_ablation", "lime", "rise", "score_cam")


class Net(nn.Module):
    """The network that each kind computes in its own way."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv2d(3, 4, 3)
        self.d = nn.Conv2d(4, 4, 3)
        self.l = nn.Linear(4, 5)

    def forward(self, x):
        return self.end(self.d(F.relu(self.c(x))))

    def end(self, h):
        return self.l(F.relu(h).mean((2, 3)))


class Kind(Net):
    """A network with a forward of its own; what it needs is made by `prepare`."""

    def prepare(self):
        return self


WORKS, REFUSED, EITHER = {}, {}, {}


def works(kind):
    WORKS[kind.__name__] = kind
    return kind


def either(kind):
    """Equal to the plain network, or refused."""
    EITHER[kind.__name__] = kind
    return kind


def refused(says, only=None):
    """Refused by every method that looks at a model, or by `only`, which the others are equal to the plain network."""

    def enter(kind):
        REFUSED[kind.__name__] = kind, says, only
        return kind

    return enter


# What is meant is plain, and works.


@works
class DefaultNone(Kind):
    def forward(self, x, domain=None, noise=None, scale=1.0, *rest, train=False, **more):
        if domain is not None:
            x = x * domain
        if noise is not None or rest or more:
            x = x + 3
        return super().forward(x * scale if not train else -x)


@works
class ManyArguments(Kind):
    def forward(self, *images, **options):
        assert len(images) == 1
        return super().forward(images[0])


@works
class InPlaceAlias(Kind):
    def forward(self, x):
        h = self.c(x)
        keep = h
        h += 1
        h -= 1
        h.relu_()
        return self.end(self.d(keep))


@works
class InPlaceDropoutAlias(Kind):
    def forward(self, x):
        h = self.c(x)
        same = F.dropout(h, training=self.training)
        h.relu_()
        return self.end(self.d(same))


@works
class InPlaceOnTheInput(Kind):
    def forward(self, x):
        x += 1
        x -= 1
        return super().forward(x)


@works
class Compiled(Kind):
    def prepare(self):
        return torch.compile(self)


@works
class Parallel(Kind):
    def prepare(self):
        return nn.DataParallel(self)


@works
class ParallelInside(Kind):
    def prepare(self):
        self.d = nn.DataParallel(self.d)
        return self


@works
class WeightNorm(Kind):
    def prepare(self):
        parametrizations.weight_norm(self.c)
        parametrizations.weight_norm(self.l)
        return self


@works
class OldWeightNorm(Kind):
    def prepare(self):
        weight_norm(self.c)
        weight_norm(self.l)
        return self


@works
class Pruned(Kind):
    def prepare(self):
        prune.custom_from_mask(self.d, "weight", torch.ones_like(self.d.weight))
        return self


@works
class WeightComputed(Kind):
    def __init__(self):
        super().__init__()
        self.register_buffer("two", torch.tensor(2.0))

    def forward(self, x):
        h = F.conv2d(x, self.c.weight * self.two / 2, self.c.bias)
        return self.end(self.d(F.relu(h)))


@works
class SharedModule(Kind):
    def __init__(self):
        super().__init__()
        self.also = self.d

    def forward(self, x):
        return self.end(self.also(F.relu(self.c(x))))


@works
class ForwardOfTheInstance(Kind):
    def prepare(self):
        plain = Net.forward
        self.forward = lambda x: plain(self, x + 1 - 1)
        return self


@works
class ForwardOfALayer(Kind):
    def prepare(self):
        layer, own = self.d, self.d.forward
        layer.forward = lambda h: own(h * 1)
        return self


@works
class KeepsWhatItSaw(Kind):
    def forward(self, x):
        self.size = tuple(x.shape)
        self.seen = self.c(x)
        return self.end(self.d(F.relu(self.seen)))


@works
class Recorded(Kind):
    def prepare(self):
        self.seen = []
        self.c.register_forward_hook(lambda m, i, o: self.seen.append(o.detach().cpu().numpy()))
        self.register_forward_hook(lambda m, i, o: None)
        self.d.register_forward_pre_hook(lambda m, i: None)
        return self


@works
class Checkpointed(Kind):
    def forward(self, x):
        return self.end(checkpoint(self.d, F.relu(self.c(x)), use_reentrant=False))


@works
class KeepsDetached(Kind):
    def forward(self, x):
        self.seen = x.detach().mean((2, 3))
        return super().forward(x)


@works
class AutocastOff(Kind):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return super().forward(x)


@works
class BySize(Kind):
    def forward(self, x):
        if x.shape[1] != 3 or len(x) == 0:
            raise ValueError("no image")
        return self.l(F.avg_pool2d(F.relu(self.d(F.relu(self.c(x)))), x.shape[-1] - 4).flatten(1))


@works
class ChannelsLast(Kind):
    def prepare(self):
        return self.to(memory_format=torch.channels_last)


# These no method takes.


class Output(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


@dataclass
class Answer:
    logits: torch.Tensor


@refused("returns a dict with logits; wrap it in an nn.Module whose forward returns the logits")
class ReturnsDict(Kind):
    def forward(self, x):
        return {"logits": super().forward(x)}


@refused("returns a OrderedDict with out, aux; wrap it")
class ReturnsOrderedDict(Kind):
    def forward(self, x):
        return OrderedDict(out=super().forward(x), aux=x)


@refused("returns a tuple of 2; wrap it")
class ReturnsTuple(Kind):
    def forward(self, x):
        return super().forward(x), x


@refused("returns a Output of 2; wrap it")
class ReturnsNamedTuple(Kind):
    def forward(self, x):
        return Output(super().forward(x), x)


@refused("returns a Answer; wrap it")
class ReturnsDataclass(Kind):
    def forward(self, x):
        return Answer(super().forward(x))


@refused("returns a NoneType; wrap it")
class ReturnsNothing(Kind):
    def forward(self, x):
        self.logits = super().forward(x)


@refused(r"must give \(N, classes\) logits, .*\(3,\).* gives one logit a column, logits\[:, None\]")
class ReturnsOneNumber(Kind):
    def forward(self, x):
        return super().forward(x)[:, 0]


@refused(r"must give \(N, classes\) logits, .*flattens them, logits.flatten\(1\)")
class ReturnsPixels(Kind):
    def forward(self, x):
        return super().forward(x)[:, :, None, None]


@refused(r"must give \(N, classes\) logits")
class ReturnsAMap(Kind):
    def forward(self, x):
        return self.d(F.relu(self.c(x)))


@refused(r"must give \(N, classes\) logits, .*int64")
class ReturnsTheClass(Kind):
    def forward(self, x):
        return super().forward(x).topk(2).indices


@refused(r"must give \(N, classes\) logits, .*complex")
class ReturnsComplex(Kind):
    def forward(self, x):
        return torch.fft.fft(super().forward(x))


@refused("gives NaN or infinite logits")
class ReturnsNaN(Kind):
    def forward(self, x):
        return super().forward(x) / 0


@refused("TorchScript, which is unsupported; give the Python module")
class Scripted(Net):
    def prepare(self):
        return torch.jit.trace(self, torch.zeros(1, 3, 8, 8, dtype=self.l.weight.dtype), check_trace=False)


@refused("needs other beside the images; wrap it in an nn.Module whose forward takes the images alone")
class TwoInputs(Kind):
    def forward(self, x, other):
        return super().forward(x) + other


@refused("needs train beside the images")
class KeywordInput(Kind):
    def forward(self, x, *, train):
        return super().forward(x)


@refused("has no positional argument for the images")
class NoInputs(Kind):
    def forward(self):
        return self.l.weight


@refused("is quantised and has no gradient; give the original float model")
class Quantised(Kind):
    def prepare(self):
        return torch.ao.quantization.quantize_dynamic(self.float(), {nn.Linear}, dtype=torch.qint8)


@refused("LazyLinear at l is lazy: call model")
class Lazy(Kind):
    def prepare(self):
        self.l = nn.LazyLinear(5)
        return self


@refused("has no data: load the weights")
class OnMeta(Kind):
    def prepare(self):
        return self.to("meta")


@refused(r"gives other logits at each call.* F.dropout\(x, training=self.training\)")
class DropoutLeftOn(Kind):
    def forward(self, x):
        return self.l(F.dropout(F.relu(self.d(F.relu(self.c(x))))).mean((2, 3)))


@refused("gives other logits at each call")
class Noise(Kind):
    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


@refused("gives other logits at each call")
class TrainsInForward(Kind):
    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout()

    def forward(self, x):
        self.drop.train()
        return self.end(self.drop(self.d(F.relu(self.c(x)))))


@refused("changes calls at each call")
class CountsCalls(Kind):
    calls = 0

    def forward(self, x):
        self.calls = self.calls + 1
        return super().forward(x) * (1 if self.calls < 50 else 2)


@refused("changes seen at each call")
class CountsInABuffer(Kind):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, x):
        self.seen += len(x)
        return super().forward(x)


@refused("depend on the other images in its batch")
class MixesTheBatch(Kind):
    def forward(self, x):
        return super().forward(x - x.mean(0))


@refused("depend on the other images in its batch")
class BatchStatistics(Kind):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(4, track_running_stats=False)

    def forward(self, x):
        return self.end(self.d(F.relu(self.norm(self.c(x)))))


@refused(r"fails on inputs that are torch.float64 of shape .* \(RuntimeError: no\)")
class Fails(Kind):
    def forward(self, x):
        raise RuntimeError("no\nway")


# These some methods take: they are equal to the plain network wherever they are taken.


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


@refused("gradient of GradientReversed is not that of its logits, because of _Reverse", only=GRADIENTS)
class GradientReversed(Kind):
    def forward(self, x):
        return super().forward(_Reverse.apply(x))


@refused("no gradient with respect to its inputs", only=GRADIENTS)
class NoGrad(Kind):
    def forward(self, x):
        with torch.no_grad():
            h = self.c(x)
        return self.end(self.d(F.relu(h)))


@refused("no gradient with respect to its inputs", only=GRADIENTS)
class InInferenceMode(Kind):
    def forward(self, x):
        with torch.inference_mode():
            h = self.c(x)
        return self.end(self.d(F.relu(h)))


@refused("is not that of its logits, because of data", only=GRADIENTS)
class Data(Kind):
    def forward(self, x):
        h = self.c(x)
        return self.end(self.d(F.relu((h + h.data) / 2)))


@refused("because of a backward hook at d", only=GRADIENTS)
class BackwardHook(Kind):
    def prepare(self):
        self.d.register_full_backward_hook(lambda module, ingoing, outgoing: (2 * ingoing[0],))
        return self


@either
class InPlaceOnAView(Kind):
    def forward(self, x):
        h = self.c(x)
        h.flatten(2).relu_()
        return self.end(self.d(h))


@either
class ClampsAView(Kind):
    def forward(self, x):
        h = self.c(x)
        h.flatten(2).clamp_(max=1e3)  # which none of the test's images reach
        return self.end(self.d(F.relu(h)))


@either
class AddsToAView(Kind):
    def forward(self, x):
        h = self.c(x)
        part = h[:, ::2]
        part += 1
        part -= 1
        return self.end(self.d(F.relu(h)))


@either
class SetsItems(Kind):
    def forward(self, x):
        h = self.c(x)
        h[:, :2] = F.relu(h[:, :2])
        h[:, 2:] = F.relu(h[:, 2:])
        return self.end(self.d(h))


@either
class HookThatClamps(Kind):
    def prepare(self):
        self.c.register_forward_hook(lambda module, given, result: result.clamp(max=1e3))
        return self


@either
class HookInPlace(Kind):
    def prepare(self):
        def hook(module, given, result):
            result.relu_()

        self.c.register_forward_hook(hook)
        return self


@either
class HookBefore(Kind):
    def prepare(self):
        self.d.register_forward_pre_hook(lambda module, given: (given[0] * 1,))
        return self


@either
class HookOnTop(Kind):
    def prepare(self):
        self.register_forward_hook(lambda module, given, result: result * 1)
        return self


@either
class IsATensor(Kind):
    def forward(self, x):
        return super().forward(x if isinstance(x, torch.Tensor) else x * 3)


@either
class Masked(Kind):
    def forward(self, x):
        h = self.c(x)
        return self.end(self.d(torch.where(h > 0, h, torch.zeros_like(h))))


@either
class Strided(Kind):
    def forward(self, x):
        h = F.relu(self.c(x))
        return self.end(self.d(torch.stack((h[:, ::2], h[:, 1::2]), 2).flatten(1, 2)))


@either
class InComplexNumbers(Kind):
    def forward(self, x):
        return super().forward(torch.fft.ifft2(torch.fft.fft2(x)).real)


@either
class BranchesOnValues(Kind):
    def forward(self, x):
        return super().forward(x if x.sum() < 1e9 else -x)


@either
class BranchesOnABuffer(Kind):
    def __init__(self):
        super().__init__()
        self.register_buffer("ready", torch.tensor(True))

    def forward(self, x):
        return super().forward(x if self.ready else -x)


@either
class Reentrant(Kind):
    def forward(self, x):
        return self.end(checkpoint(self.d, F.relu(self.c(x)), use_reentrant=True))


@either
class OneImageAtATime(Kind):
    def forward(self, x):
        return torch.cat([Net.forward(self, image[None]) for image in x.unbind()])


def made(kind):
    """The plain network, and the kind with the same weights."""
    torch.manual_seed(0)
    net = Net().double().eval()
    model = kind().double().eval()
    model.load_state_dict(net.state_dict(), strict=False)
    return net, model.prepare()


def attributed(model, method, x, folder):
    """Attribute with what the method needs, or return the RapbenchError, which must be one line."""
    result = None
    try:
        options = dict(QUICK_METHODS.get(method, {}))
        if "patterns" in methods[method].facts.files:
            images = torch.randn(8, 3, 8, 8, dtype=x.dtype, generator=torch.Generator().manual_seed(5))
            inside = explainable(model)
            options["patterns"] = str(save(estimate(inside, [images]), inside, folder / "patterns"))
        return rapbench.attribute(model, x, [1, 4, 2], method, image_ids="abc", **options)
    except rapbench.RapbenchError as error:
        result = error
    assert len(str(result).splitlines()) == 1
    return result


@pytest.fixture
def x():
    return torch.randn(3, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def equal(got, net, method, x, folder):
    if isinstance(got, rapbench.RapbenchError):
        raise got
    want = attributed(net, method, x, folder)
    if isinstance(want, rapbench.RapbenchError):
        raise want
    assert (got - want).abs().max() <= 1e-5 * want.abs().max()


# which take no constants between layers
NARROW = ("captum_lrp", "pattern_net", "pattern_attribution")


@pytest.mark.parametrize("method", mostly_quick(name for name in methods if name not in FOR_TRANSFORMERS))
@pytest.mark.parametrize("kind", WORKS)
def test_it_works_where_what_is_meant_is_plain(kind, method, x, tmp_path):
    net, model = made(WORKS[kind])
    given = x.clone()
    got = attributed(model, method, x, tmp_path)
    assert torch.equal(x, given)
    if method in NARROW and isinstance(got, rapbench.RapbenchError):
        assert (
            "no rule for" in str(got)
            or "does not belong" in str(got)
            or "inputs' size" in str(got)
            or "cannot be traced" in str(got)
        )
        return
    equal(got, net, method, x, tmp_path)


@pytest.mark.parametrize("method", mostly_quick(LOOKS))
@pytest.mark.parametrize("kind", REFUSED)
def test_it_is_refused_in_one_line(kind, method, x, tmp_path):
    kind, says, only = REFUSED[kind]
    net, model = made(kind)
    before = copy.deepcopy(model.state_dict()) if kind is not Lazy else {}
    got = attributed(model, method, x, tmp_path)
    if only and method not in only:
        if not isinstance(got, rapbench.RapbenchError):
            equal(got, net, method, x, tmp_path)
        return
    with pytest.raises(rapbench.RapbenchError, match=says):
        rapbench.attribute(model, x, [1, 4, 2], method)
    assert isinstance(got, rapbench.RapbenchError)
    for name, value in before.items():
        assert not isinstance(value, torch.Tensor) or value.is_meta or torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize("method", mostly_quick(LOOKS))
@pytest.mark.parametrize("kind", EITHER)
def test_it_is_the_plain_network_or_refused(kind, method, x, tmp_path):
    net, model = made(EITHER[kind])
    got = attributed(model, method, x, tmp_path)
    if not isinstance(got, rapbench.RapbenchError):
        equal(got, net, method, x, tmp_path)


@pytest.mark.parametrize("method", mostly_quick(name for name in LOOKS if name not in (*GRADIENTS, *LOGITS)))
@pytest.mark.parametrize(("kind", "says"), [
    (ClampsAView, "works in place on memory that is read elsewhere|cannot be traced"),
    (HookThatClamps, "a forward hook at c changes what the module reads or returns"),
])  # fmt: skip
def test_what_other_images_would_show_is_refused_at_once(kind, says, method, x, tmp_path):
    """These compute what the plain network does on the images that they are compared on, and not on others."""
    net, model = made(kind)
    assert torch.equal(model(x), net(x))
    assert not torch.equal(model(1e5 * x), net(1e5 * x))
    assert re.search(says, str(attributed(model, method, x, tmp_path)))


NORMALISED = {
    "weight_norm": lambda net: [parametrizations.weight_norm(layer) for layer in (net.c, net.d, net.l)],
    "old weight_norm": lambda net: [weight_norm(layer, dim=None) for layer in (net.c, net.d, net.l)],
    "spectral_norm": lambda net: [parametrizations.spectral_norm(layer) for layer in (net.c, net.d, net.l)],
    "old spectral_norm": lambda net: [spectral_norm(layer) for layer in (net.c, net.d, net.l)],
    "orthogonal": lambda net: [parametrizations.orthogonal(net.l)],
    "pruned": lambda net: [prune.l1_unstructured(layer, "weight", 0.4) for layer in (net.c, net.d, net.l)],
    "bias pruned": lambda net: [prune.l1_unstructured(layer, "bias", 0.5) for layer in (net.c, net.d)],
    "twice": lambda net: [prune.l1_unstructured(net.c, "weight", 0.4), prune.random_unstructured(net.c, "weight", 0.4)],
}


@pytest.mark.parametrize("method", mostly_quick(LOOKS))
@pytest.mark.parametrize("name", NORMALISED)
def test_a_weight_that_is_computed_is_the_weight(name, method, x, tmp_path):
    """The reference is the network with the computed weights as its own."""
    net, model = made(Kind)
    NORMALISED[name](model)
    model.eval()
    model(x)  # hooks set the weights at a call
    for layer in ("c", "d", "l"):
        for part in ("weight", "bias"):
            getattr(net, layer).register_parameter(part, nn.Parameter(getattr(getattr(model, layer), part).detach()))
    assert not torch.allclose(net(x), made(Kind)[0](x)) or "weight_norm" in name
    before = {key: value.clone() for key, value in model.state_dict().items()}
    equal(attributed(model, method, x, tmp_path), net, method, x, tmp_path)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
