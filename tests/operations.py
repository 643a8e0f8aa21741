"""What a vision network can hold: all of torch.nn, the functions and methods of torch, each in a small network."""

import functools
import operator
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm, weight_norm
from torchvision.ops import Permute, StochasticDepth, deform_conv2d

SIZES = {0: (), 1: (6,), 2: (4, 4), 3: (4, 2, 2)}
FEATURES, CLASSES = 8, 5

# Functions of torch.nn.functional that are no operation on a signal, and why.
NOT_A_FUNCTION_OF_A_SIGNAL = {
    "losses, and parts of them: they take the true labels": {
        "binary_cross_entropy", "binary_cross_entropy_with_logits", "cosine_embedding_loss", "cross_entropy",
        "ctc_loss", "gaussian_nll_loss", "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss",
        "linear_cross_entropy", "margin_ranking_loss", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
        "multilabel_soft_margin_loss", "nll_loss", "poisson_nll_loss", "smooth_l1_loss", "soft_margin_loss",
        "triplet_margin_loss", "triplet_margin_with_distance_loss",
    },
    "takes class numbers, or the batch as one set of points, or time first": {"one_hot", "pdist", "conv_tbc"},
    "another name of one that is called": {
        "native_channel_shuffle", *(f"{kind}_pool{d}d_with_indices" for kind in ("adaptive_max", "fractional_max")
                                    for d in (1, 2, 3)),
    },
}  # fmt: skip


class Call(nn.Module):
    """A function or method of the signal, as it stands in a model's own forward."""

    def __init__(self, function: Callable[..., Any], **modules: nn.Module):
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, h: Any) -> Any:
        """Apply it; where there are modules, the function takes this one as well."""
        return self.function(h, self) if self._modules else self.function(h)


@dataclass(frozen=True)
class Case:
    """An operation and where it stands: between a convolution and ReLU, flatten and a fully connected layer.

    build: makes it. dimensions: spatial ones of its input, which has four channels; 0: it is (N, features).
    positive: it needs an input above 0. head: it comes last. names: what a message may call it by, a pattern.
    plain: the same in modules whose rules the papers give, for a reference; from the operation that `build` made.
    signal: of a gate, the operation as a function of the signal alone. norm: of one by the sample's own statistics, the
    operation with its deviation detached. attention: its weights, (N, ..., queries, keys), where the signal itself is
    the values. flat: it resizes, each output a mean of inputs. branches: it is several operations side by side.
    """

    name: str
    build: Callable[[], nn.Module]
    dimensions: int = 2
    positive: bool = False
    head: bool = False
    names: str = ""
    plain: Callable[[Any], list[nn.Module]] | None = None
    signal: Callable[[Any], Any] | None = None
    norm: Callable[[Any, Any], Any] | None = None
    attention: Callable[[Any], Any] | None = None
    flat: bool = False
    branches: bool = False

    @property
    def pattern(self) -> str:
        """What a message about this operation must hold."""
        return self.names or r"\b" + re.escape(self.name.split("(")[0].rpartition(".")[2]) + r"\b"

    def network(self) -> "Around":
        """Return the network, in float64 and in eval mode."""
        with torch.random.fork_rng(), warnings.catch_warnings():
            torch.manual_seed(0)
            warnings.simplefilter("ignore")  # old spellings are cases too
            return Around(self).eval()

    def images(self, count: int = 2) -> Tensor:
        """Return (count, 3, ...) or (count, FEATURES) images in float64."""
        shape = (3, *SIZES[self.dimensions]) if self.dimensions else (FEATURES,)
        return torch.randn(count, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


class Around(nn.Module):
    """A convolution, the operation, ReLU, a fully connected layer."""

    def __init__(self, case: Case):
        super().__init__()
        kind: Any = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)[case.dimensions]
        self.first = kind(3, 4, 3, padding=1) if case.dimensions else kind(FEATURES, 12)
        nn.init.normal_(self.first.bias, 3.0 if case.positive else 0.0, 0.3)
        self.op = case.build()
        for module in self.op.modules():
            _randomise(module)
        self.double().eval()
        with torch.no_grad():
            out = self.op(self.first(case.images()))
        self.act: nn.Module = nn.Identity() if case.head else nn.ReLU()
        self.head: nn.Module = nn.Identity() if case.head else nn.Linear(out.flatten(1).shape[1], CLASSES).double()

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.act(self.op(self.first(x))).flatten(1))


def _randomise(module: Any) -> None:
    """Give a norm something to do."""
    if getattr(module, "running_mean", None) is not None:
        module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    is_norm = isinstance(module, (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)) or hasattr(module, "running_mean")
    if is_norm and getattr(module, "weight", None) is not None:
        nn.init.uniform_(module.weight, 0.5, 1.5)
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.3)


# nn classes that cannot stand in a classifier's forward pass, and why.
NOT_IN_A_CLASSIFIER = {
    "abstract or a container: what it holds is what counts": {
        "Module", "Container", "Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict", "RNNBase",
        "RNNCellBase",
    },
    "a loss, or made of one: it takes the true labels": {
        "AdaptiveLogSoftmaxWithLoss", "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss",
        "CrossEntropyLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss", "L1Loss",
        "LinearCrossEntropyLoss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss", "MultiLabelSoftMarginLoss",
        "MultiMarginLoss", "NLLLoss", "NLLLoss2d", "PoissonNLLLoss", "SmoothL1Loss", "SoftMarginLoss",
        "TripletMarginLoss", "TripletMarginWithDistanceLoss",
    },
    "becomes its plain class with the first call": {
        f"Lazy{name}" for name in ("Linear", *(f"{kind}{d}d" for d in (1, 2, 3)
                                   for kind in ("BatchNorm", "InstanceNorm", "Conv", "ConvTranspose")))
    },
    "spreads a model over GPUs: the model is its module": {"DataParallel"},
}  # fmt: skip


def _tokens(h: Any) -> Any:
    """(N, 4, H, W) -> (N, H W, 4)."""
    return h.flatten(2).transpose(1, 2)


def _constant_deviation(groups: int, *, centred: bool = True, eps: float = 1e-5) -> Callable[[Any, Any], Any]:
    """A norm of each image's channels in groups, whose deviation is a constant; eps: where the module has none."""

    def norm(h: Any, op: Any) -> Any:
        rows = h.flatten(1).unflatten(1, (groups, -1))
        rows = rows - rows.mean(2, keepdim=True) if centred else rows
        added = getattr(op, "eps", None) or eps
        y = (rows / (rows.detach().pow(2).mean(2, keepdim=True) + added).sqrt()).view_as(h)
        weight, bias = ((None if it is None else it.detach().view(-1, *[1] * (h.dim() - 2)) if it.dim() == 1 else it)
                        for it in (getattr(op, "weight", None), getattr(op, "bias", None)))  # fmt: skip
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    return norm


def _module(name: str, *arguments: Any, dimensions: int = 2, says: str = "",
            norm: Callable[[Any, Any], Any] | None = None, **options: Any) -> Case:  # fmt: skip
    build = getattr(nn, name)
    flat = name.startswith("Upsampl") and options.get("mode", name) not in (
        "Upsample",
        "UpsamplingNearest2d",
        "bicubic",
    )
    return Case(says or f"nn.{name}", lambda: build(*arguments, **options), dimensions, names=rf"\b{name}\b",
                norm=norm, flat=flat)  # fmt: skip


def _each(name: str, *arguments: Any, says: str = "", dimensions: tuple[int, ...] = (1, 2, 3),
          **options: Any) -> list[Case]:  # fmt: skip
    return [_module(f"{name}{d}d", *arguments, dimensions=d, says=says.format(f"nn.{name}{d}d"), **options)
            for d in dimensions]  # fmt: skip


def _on_tokens(name: str, module: Callable[[], nn.Module], call: Callable[[Any, Any], Any], more: str = "transpose",
               branches: bool = False) -> Case:  # fmt: skip
    return Case(f"nn.{name}", lambda: Call(lambda h, m: call(m.inner, _tokens(h)), inner=module()),
                names=rf"\b{name}\b|{more}", branches=branches)  # fmt: skip


def _flat(name: str, module: Callable[[], nn.Module], call: Callable[[Any, Any], Any], names: str = "") -> Case:
    return Case(f"nn.{name}", lambda: Call(lambda h, m: call(m.inner, h), inner=module()), 0,
                names=names or rf"\b{name}\b")  # fmt: skip


def _unpooled(h: Any, modules: Any) -> Any:
    pooled, indices = modules.pool(h)
    return modules.unpool(pooled, indices)


ELEMENTWISE = (
    "CELU", "ELU", "GELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh", "LeakyReLU", "LogSigmoid", "Mish",
    "PReLU", "RReLU", "ReLU", "ReLU6", "SELU", "SiLU", "Sigmoid", "Softplus", "Softshrink", "Softsign", "Tanh",
    "Tanhshrink",
)  # fmt: skip

MODULES: list[Case] = [
    *(_module(name) for name in ELEMENTWISE),
    _module("Threshold", 0.1, 0.0),
    *(_module(name) for name in ("Identity", "Dropout", "AlphaDropout", "FeatureAlphaDropout")),
    *_each("Dropout"),
    *_each("Conv", 4, 3, 3, padding=1),
    *_each("Conv", 4, 6, 3, groups=2, padding="same", dilation=1, bias=False, says="{}, groups"),
    *_each("Conv", 4, 3, 3, padding=1, padding_mode="reflect", dimensions=(1, 2), says="{}, reflecting"),
    *_each("Conv", 4, 3, 3, padding=1, padding_mode="circular", dimensions=(1, 2), says="{}, circular"),
    *_each("ConvTranspose", 4, 6, 3, stride=2, output_padding=1, padding=1),
    *_each("ConvTranspose", 4, 6, 2, stride=2, groups=2, bias=False, says="{}, groups"),
    _module("Linear", 12, 7, dimensions=0),
    Case("nn.Linear, on channels last", lambda: Call(lambda h, m: m.inner(_tokens(h)), inner=nn.Linear(4, 3)),
         names="Linear|transpose", plain=lambda op: [Call(_tokens), op.inner]),
    *_each("BatchNorm", 4),
    _module("BatchNorm1d", 12, dimensions=0, says="nn.BatchNorm1d, flat"),
    _module("SyncBatchNorm", 4),
    _module("BatchNorm2d", 4, track_running_stats=False, says="nn.BatchNorm2d, by batch"),
    Case("nn.BatchNorm2d, after ReLU", lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)), names="BatchNorm2d"),
    Case("nn.BatchNorm2d, after ConvTranspose2d",
         lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 2, 2), nn.BatchNorm2d(6)), names="ConvTranspose2d|BatchNorm2d"),
    Case("nn.BatchNorm2d, after ConvTranspose2d with as many channels",
         lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)),
         names="ConvTranspose2d|BatchNorm2d"),
    Case("nn.BatchNorm2d, after ConvTranspose2d with groups",
         lambda: nn.Sequential(nn.ConvTranspose2d(4, 4, 3, groups=2), nn.BatchNorm2d(4)),
         names="ConvTranspose2d|BatchNorm2d"),
    Case("nn.BatchNorm1d, after Linear", lambda: nn.Sequential(nn.Linear(12, 6), nn.BatchNorm1d(6)), 0,
         names="BatchNorm1d"),
    Case("nn.BatchNorm1d, after Linear on channels first",
         lambda: nn.Sequential(nn.Flatten(2), nn.Linear(16, 4), nn.BatchNorm1d(4)), names="BatchNorm1d|Linear"),
    _module("GroupNorm", 2, 4, norm=_constant_deviation(2)),
    *_each("InstanceNorm", 4, affine=True, norm=_constant_deviation(4)),
    _module("InstanceNorm2d", 4, affine=True, track_running_stats=True, says="nn.InstanceNorm2d, running statistics",
            norm=lambda h, op: op(h)),
    _module("LayerNorm", [4, 4, 4], norm=_constant_deviation(1)),
    _module("RMSNorm", [4, 4, 4], norm=_constant_deviation(1, centred=False, eps=torch.finfo(torch.float64).eps)),
    _module("LocalResponseNorm", 2),
    _module("CrossMapLRN2d", 2),
    *_each("MaxPool", 2),
    *_each("MaxPool", 3, 1, 1, says="{}, overlapping"),
    *_each("AvgPool", 2),
    *_each("AvgPool", 2, 2, 1, says="{}, padded"),
    *_each("AdaptiveAvgPool", 1),
    *_each("AdaptiveMaxPool", 1),
    *_each("LPPool", 2, 2),
    _module("FractionalMaxPool2d", 2, output_size=2),
    _module("FractionalMaxPool3d", (2, 1, 1), output_size=(2, 1, 1), dimensions=3),
    *(Case(f"nn.MaxUnpool{d}d", lambda d=d: Call(_unpooled,
           pool=getattr(nn, f"MaxPool{d}d")(2, return_indices=True), unpool=getattr(nn, f"MaxUnpool{d}d")(2)), d,
           names=f"MaxUnpool{d}d|MaxPool{d}d") for d in (1, 2, 3)),
    Case("nn.MaxPool2d, return_indices", lambda: Call(lambda h, m: m.pool(h)[0],
         pool=nn.MaxPool2d(2, return_indices=True)), names="MaxPool2d|getitem"),
    *(case for kind in ("Circular", "Reflection", "Replication", "Zero") for case in _each(f"{kind}Pad", 1)),
    *_each("ConstantPad", 1, 0.5),
    _module("Upsample", scale_factor=2),
    *(_module("Upsample", scale_factor=2, mode=mode, dimensions=d, says=f"nn.Upsample, {mode}")
      for mode, d in (("linear", 1), ("bilinear", 2), ("bicubic", 2), ("trilinear", 3))),
    _module("Upsample", size=7, mode="bilinear", align_corners=True, says="nn.Upsample, size"),
    _module("UpsamplingBilinear2d", scale_factor=2),
    _module("UpsamplingNearest2d", scale_factor=2),
    _module("PixelShuffle", 2),
    _module("PixelUnshuffle", 2),
    _module("ChannelShuffle", 2),
    _module("Flatten"),
    _module("Unflatten", 1, (2, 2)),
    _module("Unfold", 3, padding=1),
    Case("nn.Fold", lambda: Call(lambda h, m: m.fold(m.unfold(h)), unfold=nn.Unfold(2), fold=nn.Fold((4, 4), 2)),
         names="Fold|Unfold"),
    _module("Softmax", 1),
    _module("Softmin", 1),
    _module("Softmax2d"),
    _module("LogSoftmax", 1),
    _module("GLU", 1),
    _flat("Bilinear", lambda: nn.Bilinear(12, 12, 4), lambda m, h: m(h, h)),
    _flat("CosineSimilarity", lambda: nn.CosineSimilarity(1), lambda m, h: m(h[:, :6, None], h[:, 6:, None])),
    _flat("PairwiseDistance", lambda: nn.PairwiseDistance(), lambda m, h: m(h[:, :6], h[:, 6:])[:, None]),
    _flat("RNNCell", lambda: nn.RNNCell(12, 4), lambda m, h: m(h)),
    _flat("GRUCell", lambda: nn.GRUCell(12, 4), lambda m, h: m(h)),
    _flat("LSTMCell", lambda: nn.LSTMCell(12, 4), lambda m, h: m(h)[0]),
    _on_tokens("RNN", lambda: nn.RNN(4, 3, batch_first=True), lambda m, t: m(t)[0]),
    _on_tokens("GRU", lambda: nn.GRU(4, 3, batch_first=True), lambda m, t: m(t)[0]),
    _on_tokens("LSTM", lambda: nn.LSTM(4, 3, batch_first=True), lambda m, t: m(t)[0]),
    _on_tokens("MultiheadAttention", lambda: nn.MultiheadAttention(4, 2, batch_first=True), lambda m, t: m(t, t, t)[0],
               r"MatMul|\bmul\b", branches=True),
    _on_tokens("TransformerEncoderLayer",
               lambda: nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), lambda m, t: m(t)),
    _on_tokens("TransformerDecoderLayer",
               lambda: nn.TransformerDecoderLayer(4, 2, 8, batch_first=True), lambda m, t: m(t, t)),
    _on_tokens("TransformerEncoder", lambda: nn.TransformerEncoder(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1, enable_nested_tensor=False), lambda m, t: m(t)),
    _on_tokens("TransformerDecoder", lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(4, 2, 8, batch_first=True), 1), lambda m, t: m(t, t)),
    _on_tokens("Transformer", lambda: nn.Transformer(4, 2, 1, 1, 8, batch_first=True), lambda m, t: m(t, t)),
    _flat("Embedding", lambda: nn.Embedding(2, 3), lambda m, h: m(h.gt(0).long()), "Embedding|gt|long"),
    _flat("EmbeddingBag", lambda: nn.EmbeddingBag(2, 3), lambda m, h: m(h.gt(0).long()), "EmbeddingBag|gt|long"),
]  # fmt: skip


def _convolution(function: Any, d: int) -> Case:
    """A convolution as a function, with its module for the reference."""

    def build() -> nn.Module:
        return Call(lambda h, m: function(h, m.inner.weight, m.inner.bias, padding=1), inner=kind(4, 4, 3, padding=1))

    name = function.__name__
    kind = getattr(nn, ("ConvTranspose" if "transpose" in name else "Conv") + f"{d}d")
    return Case(f"F.{name}", build, d, names=rf"\b{name}\b|{kind.__name__}", plain=lambda op: [op.inner])


def _function(name: str, function: Callable[..., Any], names: str = "", *, dimensions: int = 2,
              positive: bool = False, head: bool = False, flat: bool = False, branches: bool = False,
              signal: Callable[..., Any] | None = None, norm: Callable[[Any, Any], Any] | None = None,
              attention: Callable[[Any], Any] | None = None,
              plain: Callable[[Any], list[nn.Module]] | None = None,
              **modules: Callable[[], nn.Module]) -> Case:  # fmt: skip
    def build() -> nn.Module:
        return Call(function, **{key: make() for key, make in modules.items()})

    return Case(name, build, dimensions, positive, head, names, plain, signal, norm, attention, flat, branches)


def _constant(*shape: int) -> Callable[[], nn.Module]:
    """A module with a parameter `c` of its own, which a function reads."""

    def build() -> nn.Module:
        module = nn.Module()
        module.c = nn.Parameter(torch.randn(*shape))
        return module

    return build


def _turned(h: Any) -> Any:
    """Another signal."""
    return h.transpose(2, 3)


def _attention_weights(h: Any) -> Any:
    """Those of scaled_dot_product_attention(h, other, h)."""
    return (h @ _turned(h).mT / h.shape[-1] ** 0.5).softmax(-1)


FUNCTIONS: list[Case] = [
    # sums and products of two signals
    _function("a + b", lambda h: h + _turned(h), "[aA]dd"),
    _function("a - b", lambda h: h - _turned(h), "[sS]ub"),
    _function("a * b", lambda h: h * _turned(h), "[mM]ul|Gate"),
    _function("a / b", lambda h: h / _turned(h), "div", positive=True),
    _function("a @ b", lambda h: h @ _turned(h), "matmul"),
    _function("a + a", lambda h: h + h, "[aA]dd"),
    _function("torch.add(a, b, alpha=2)", lambda h: torch.add(h, _turned(h), alpha=2), "[aA]dd"),
    _function("a.add(b, alpha=-0.5)", lambda h: h.add(_turned(h), alpha=-0.5), "[aA]dd"),
    _function("a.add_(b)", lambda h: (2 * h).add_(_turned(h)), "[aA]dd|mul"),
    _function("a += b", lambda h: operator.iadd(2 * h, _turned(h)), "[aA]dd|mul"),
    _function("torch.sub(a, b, alpha=2)", lambda h: torch.sub(h, _turned(h), alpha=2), "[sS]ub"),
    _function("torch.rsub(a, b)", lambda h: torch.rsub(h, _turned(h)), "rsub|sub"),
    _function("torch.addcmul", lambda h: torch.addcmul(h, h, _turned(h))),
    _function("torch.addcdiv", lambda h: torch.addcdiv(h, h, _turned(h)), positive=True),
    _function("torch.lerp", lambda h: torch.lerp(h, _turned(h), 0.3)),
    _function("torch.maximum", lambda h: torch.maximum(h, _turned(h))),
    _function("torch.minimum", lambda h: torch.minimum(h, _turned(h))),
    _function("torch.logaddexp", lambda h: torch.logaddexp(h, _turned(h))),
    _function("torch.hypot", lambda h: torch.hypot(h, _turned(h))),
    _function("torch.bmm", lambda h: torch.bmm(h.flatten(2), _turned(h).flatten(2).transpose(1, 2))),
    _function("torch.outer, einsum of two", lambda h: torch.einsum("nchw,ndhw->ncd", h, _turned(h)), "einsum"),
    _function("torch.where(h > 0, a, b)", lambda h: torch.where(h > 0, h, _turned(h)), "where|gt"),
    _function("h * sigmoid(h)", lambda h: h * h.sigmoid(), "Gate|[sS]igmoid|mul"),
    _function("a * sigmoid(b)", lambda h: h * torch.sigmoid(_turned(h)), "Gate|[sS]igmoid|mul",
              signal=lambda h: h * torch.sigmoid(_turned(h).detach())),
    _function("hardsigmoid(b) * a", lambda h: F.hardsigmoid(_turned(h)) * h, "Gate|[hH]ardsigmoid|mul",
              signal=lambda h: h * F.hardsigmoid(_turned(h).detach())),
    _function("squeeze and excitation", lambda h, m: h * m.conv(h.mean((2, 3), keepdim=True)).sigmoid(),
              "Gate|[sS]igmoid|mul|Conv2d|[mM]ean", conv=lambda: nn.Conv2d(4, 4, 1),
              signal=lambda h, m: h * m.conv(h.detach().mean((2, 3), keepdim=True)).sigmoid()),
    _function("a * softmax(b)", lambda h: h * _turned(h).softmax(1), "[sS]oftmax|mul|Gate",
              signal=lambda h: h * _turned(h).detach().softmax(1)),
    _function("a * tanh(b)", lambda h: h * _turned(h).tanh(), "[tT]anh|mul|Gate"),
    _function("a * (b > 0)", lambda h: h * (_turned(h) > 0), "mul|gt"),
    # with constants
    _function("h + 1.5", lambda h: h + 1.5, "add"),
    _function("h - 1.5", lambda h: h - 1.5, "sub"),
    _function("1.5 - h", lambda h: 1.5 - h, "sub"),
    _function("h * 1.5", lambda h: h * 1.5, "mul"),
    _function("h * -1.5", lambda h: h * -1.5, "mul"),
    _function("h / 1.5", lambda h: h / 1.5, "div"),
    _function("1.5 / h", lambda h: 1.5 / h, "div|reciprocal", positive=True),
    _function("h // 1", lambda h: h // 1, "floor"),
    _function("h % 1", lambda h: h % 1, "mod|remainder"),
    _function("h ** 2", lambda h: h**2, "pow"),
    _function("2 ** h", lambda h: 2**h, "pow"),
    _function("-h", lambda h: -h, "neg"),
    _function("abs(h)", lambda h: abs(h), "abs"),
    _function("h + parameter", lambda h, m: h + m.p.c, "add", p=_constant(4, 1, 1)),
    _function("h * parameter", lambda h, m: h * m.p.c, "mul", p=_constant(4, 1, 1)),
    _function("h + parameter, broadcast", lambda h, m: h[:, :1] + m.p.c, "add", p=_constant(4, 1, 1)),
    _function("h * parameter, broadcast", lambda h, m: h[:, :1] * m.p.c, "mul", p=_constant(4, 1, 1)),
    _function("torch.add(h, 1, alpha=2)", lambda h: torch.add(h, 1, alpha=2), "add"),
    _function("h.mul_(2)", lambda h: (h + 1).mul_(2), "mul|add"),
    _function("torch.div(rounding_mode=)", lambda h: torch.div(h, 0.3, rounding_mode="floor"), "div"),
    _function("h * (h > 0)", lambda h: h * (h > 0), "mul|gt"),
    _function("torch.where(h > 0, h, 0)", lambda h: torch.where(h > 0, h, 0.0), "where|gt"),
    _function("torch.maximum(h, constant)", lambda h: torch.maximum(h, torch.zeros((), dtype=h.dtype)), "maximum"),
    # elementwise
    *(_function(f"F.{name}", getattr(F, name), rf"\b{name}\b|{module}") for name, module in (
        ("relu", "ReLU"), ("relu6", "ReLU6"), ("leaky_relu", "LeakyReLU"), ("elu", "ELU"), ("celu", "CELU"),
        ("selu", "SELU"), ("gelu", "GELU"), ("silu", "SiLU"), ("mish", "Mish"), ("hardswish", "Hardswish"),
        ("hardtanh", "Hardtanh"), ("softplus", "Softplus"), ("tanh", "Tanh"), ("sigmoid", "Sigmoid"),
        ("hardsigmoid", "Hardsigmoid"), ("hardshrink", "Hardshrink"), ("softshrink", "Softshrink"),
        ("softsign", "Softsign"), ("tanhshrink", "Tanhshrink"), ("logsigmoid", "LogSigmoid|log_sigmoid"),
        ("rrelu", "RReLU"))),
    _function("F.prelu", lambda h, m: F.prelu(h, m.p.c), "prelu|PReLU", p=_constant(4)),
    _function("F.threshold", lambda h: F.threshold(h, 0.1, 0.0), "threshold|Threshold"),
    _function("F.relu_", lambda h: F.relu_(h + 0), "relu_|ReLU|add"),
    _function("F.leaky_relu(inplace=True)", lambda h: F.leaky_relu(h + 0, 0.2, inplace=True),
              "leaky_relu|LeakyReLU|add"),
    _function("h.relu()", lambda h: h.relu(), "relu|ReLU"),
    *(_function(f"torch.{name}", getattr(torch, name)) for name in (
        "abs", "square", "exp", "expm1", "sin", "cos", "atan", "sinh", "erf", "sign", "round", "floor", "ceil",
        "sigmoid", "tanh", "relu", "nan_to_num", "positive", "neg", "log1p", "sinc", "frac")
        if name not in ("log1p",)),
    *(_function(f"torch.{name}", getattr(torch, name), positive=True) for name in (
        "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "reciprocal", "lgamma")),
    _function("h.sqrt()", lambda h: h.sqrt(), "sqrt", positive=True),
    _function("h.clamp(0, 1)", lambda h: h.clamp(0, 1), "clamp|Hardtanh"),
    _function("h.clamp(min=0)", lambda h: h.clamp(min=0), "clamp|ReLU"),
    _function("torch.clamp", lambda h: torch.clamp(h, -0.5, 0.5), "clamp|Hardtanh"),
    _function("torch.clip", lambda h: torch.clip(h, min=0), "clip|clamp|ReLU"),
    _function("h.clamp_min(0)", lambda h: h.clamp_min(0), "clamp"),
    _function("h.pow(2)", lambda h: h.pow(2), "pow"),
    _function("torch.pow(h, 1)", lambda h: torch.pow(h, 1), "pow"),
    _function("h.pow(0.5)", lambda h: h.pow(0.5), "pow", positive=True),
    _function("h.masked_fill", lambda h: h.masked_fill(h < 0, 0.0), "masked_fill|lt"),
    _function("h.float().double()", lambda h: h.float().double(), "float|double|to"),
    _function("h.to(dtype)", lambda h: h.to(torch.float64), r"\bto\b"),
    _function("h.detach()", lambda h: h.detach(), "detach"),
    _function("h + h.detach()", lambda h: h + h.detach(), "detach|[aA]dd"),
    _function("h.clone()", lambda h: h.clone(), "clone"),
    _function("h.contiguous()", lambda h: h.contiguous(), "contiguous"),
    _function("torch.dropout", lambda h: torch.dropout(h, 0.5, False), "dropout|Dropout"),
    _function("F.dropout(training=False)", lambda h: F.dropout(h, training=False), "dropout|Dropout"),
    _function("F.dropout", lambda h: F.dropout(h), "dropout|Dropout"),
    _function("F.dropout2d", lambda h: F.dropout2d(h), "dropout|Dropout"),
    _function("F.alpha_dropout", lambda h: F.alpha_dropout(h, training=False), "alpha_dropout|AlphaDropout"),
    _function("torchvision.ops.StochasticDepth", lambda h, m: m.depth(h), "[sS]tochastic_?[dD]epth",
              depth=lambda: StochasticDepth(0.5, "row")),
    # sums and means
    _function("h.sum((2, 3))", lambda h: h.sum((2, 3)), "[sS]um"),
    _function("h.sum(1)", lambda h: h.sum(1), "[sS]um"),
    _function("h.sum(1, keepdim=True)", lambda h: h.sum(1, keepdim=True), "[sS]um"),
    _function("torch.sum(h, dim=(2, 3))", lambda h: torch.sum(h, dim=(2, 3)), "[sS]um"),
    _function("h.sum((2, 3), dtype=float32)", lambda h: h.sum((2, 3), dtype=torch.float32).double(), "[sS]um|double"),
    _function("h.mean((2, 3))", lambda h: h.mean((2, 3)), "[mM]ean"),
    _function("h.mean(1)", lambda h: h.mean(1), "[mM]ean"),
    _function("h.mean((-1, -2), keepdim=True)", lambda h: h.mean((-1, -2), keepdim=True), "[mM]ean"),
    _function("torch.mean(h, 1, dtype=)", lambda h: torch.mean(h, 1, dtype=torch.float64), "[mM]ean"),
    _function("h.mean(dtype=)", lambda h: h.mean((2, 3), dtype=torch.float64), "[mM]ean"),
    _function("torch.cumsum", lambda h: torch.cumsum(h, 1)),
    _function("torch.diff", lambda h: torch.diff(h, dim=1), dimensions=2),
    _function("h - h.mean", lambda h: h - h.mean((1, 2, 3), keepdim=True), "[sS]ub|[mM]ean"),
    _function("torch.logsumexp", lambda h: torch.logsumexp(h, 1)),
    _function("torch.var", lambda h: torch.var(h, 1)),
    _function("torch.std", lambda h: torch.std(h, 1)),
    _function("torch.norm", lambda h: torch.norm(h, dim=1), "norm"),
    _function("h.norm(dim=1)", lambda h: h.norm(dim=1), "norm"),
    _function("torch.prod", lambda h: torch.prod(h, 1)),
    _function("torch.amax", lambda h: torch.amax(h, (2, 3))),
    _function("h.amin", lambda h: h.amin((2, 3)), "amin"),
    _function("h.max(1)[0]", lambda h: h.max(1)[0], "max|getitem"),
    _function("h.max(1).values", lambda h: h.max(1).values, "max|values|getattr"),
    _function("torch.median", lambda h: torch.median(h, 1)[0], "median|getitem"),
    _function("torch.sort", lambda h: torch.sort(h, 1)[0], "sort|getitem"),
    _function("torch.topk", lambda h: torch.topk(h, 2, 1)[0], "topk|getitem"),
    _function("torch.cummax", lambda h: torch.cummax(h, 1)[0], "cummax|getitem"),
    _function("torch.aminmax", lambda h: torch.aminmax(h, dim=1)[0], "aminmax|getitem"),
    # moves
    _function("h.flatten(1)", lambda h: h.flatten(1), "flatten"),
    _function("torch.flatten(h, 2)", lambda h: torch.flatten(h, 2), "flatten"),
    _function("h.view", lambda h: h.view(h.size(0), -1), "view"),
    _function("h.reshape", lambda h: h.reshape(h.shape[0], 2, -1), "reshape"),
    _function("h.view(-1, 4): images in other rows", lambda h: h.view(-1, 4).view(-1, 64), "view"),
    _function("h.unflatten", lambda h: h.unflatten(1, (2, 2)), "unflatten"),
    _function("h.permute", lambda h: h.permute(0, 2, 3, 1), "permute"),
    _function("torch.permute", lambda h: torch.permute(h, (0, 3, 1, 2)), "permute"),
    _function("torchvision.ops.Permute", lambda h, m: m.move(h), "[pP]ermute", move=lambda: Permute([0, 2, 3, 1])),
    _function("h.transpose", lambda h: h.transpose(1, 2), "transpose"),
    _function("torch.swapaxes", lambda h: torch.swapaxes(h, 1, 2)),
    _function("torch.movedim", lambda h: torch.movedim(h, 1, 3)),
    _function("h.mT", lambda h: h.mT, "mT|getattr"),
    _function("h.squeeze", lambda h: h.unsqueeze(1).squeeze(1), "squeeze"),
    _function("h[:, :2]", lambda h: h[:, :2], "getitem"),
    _function("h[:, ::2, 1:]", lambda h: h[:, ::2, 1:], "getitem"),
    _function("h[:, [0, 2, 2]]", lambda h: h[:, [0, 2, 2]], "getitem"),
    _function("h[..., None]", lambda h: h[..., None], "getitem"),
    _function("h[:, 0]", lambda h: h[:, 0], "getitem"),
    _function("torch.select", lambda h: torch.select(h, 1, 2)),
    _function("torch.narrow", lambda h: torch.narrow(h, 1, 1, 2)),
    _function("torch.index_select", lambda h: torch.index_select(h, 1, torch.tensor([0, 2])), "index_select"),
    _function("torch.take_along_dim", lambda h: torch.take_along_dim(h, h.argmax(1, keepdim=True), 1),
              "take_along_dim|argmax"),
    _function("torch.gather", lambda h: torch.gather(h, 1, h.argmax(1, keepdim=True)), "gather|argmax"),
    _function("torch.cat", lambda h: torch.cat([h, _turned(h)], 1), "cat|Cat"),
    _function("torch.stack", lambda h: torch.stack([h, _turned(h)], 1), "stack|Stack"),
    _function("torch.hstack", lambda h: torch.hstack([h, _turned(h)])),
    _function("torch.chunk", lambda h: torch.cat(torch.chunk(h, 2, 1)[::-1], 1), "chunk|cat|Cat|getitem|Part"),
    _function("h.chunk, one part", lambda h: h.chunk(2, 1)[1], "chunk|Part"),
    _function("torch.split", lambda h: torch.split(h, [1, 3], 1)[1], "split|Part"),
    _function("torch.unbind", lambda h: torch.unbind(h, 1)[2], "unbind|Part"),
    _function("torch.tensor_split", lambda h: torch.tensor_split(h, 2, 1)[0], "tensor_split|Part"),
    _function("torch.flip", lambda h: torch.flip(h, (2,))),
    _function("torch.roll", lambda h: torch.roll(h, 1, 2)),
    _function("torch.rot90", lambda h: torch.rot90(h, 1, (2, 3))),
    _function("h.expand", lambda h: h[:, :1].expand(-1, 3, -1, -1), "expand"),
    _function("h.repeat", lambda h: h.repeat(1, 2, 1, 1), "repeat"),
    _function("torch.tile", lambda h: torch.tile(h, (1, 2, 1, 1))),
    _function("torch.repeat_interleave", lambda h: torch.repeat_interleave(h, 2, 1)),
    _function("torch.tril", lambda h: torch.tril(h)),
    _function("torch.diagonal", lambda h: torch.diagonal(h, dim1=2, dim2=3)),
    _function("h.unfold", lambda h: h.unfold(2, 2, 1), "unfold"),
    _function("F.pad", lambda h: F.pad(h, (1, 0, 0, 1)), r"\b[pP]ad\b"),
    _function("F.pad(value=0.5)", lambda h: F.pad(h, (1, 0, 0, 1), value=0.5), r"\b[pP]ad\b"),
    _function("F.pad(mode=reflect)", lambda h: F.pad(h, (1, 1, 1, 1), mode="reflect"), r"\b[pP]ad\b"),
    _function("F.pixel_shuffle", lambda h: F.pixel_shuffle(h, 2), "pixel_shuffle|PixelShuffle"),
    _function("F.pixel_unshuffle", lambda h: F.pixel_unshuffle(h, 2), "pixel_unshuffle|PixelUnshuffle"),
    _function("F.channel_shuffle", lambda h: F.channel_shuffle(h, 2), "channel_shuffle|ChannelShuffle"),
    _function("F.unfold", lambda h: F.unfold(h, 2), "unfold|Unfold"),
    _function("F.fold", lambda h: F.fold(h.flatten(1).view(-1, 4, 16)[:, :, :9], (4, 4), 2), "fold|Fold"),
    _function("x[::-1] of the batch", lambda h: h.flip(0), "flip"),
    _function("h - the batch's mean", lambda h: h - h.mean(0), "mean|Mean|[sS]ub"),
    # pooling, resizing, sampling
    *(_function(f"F.max_pool{d}d", lambda h, d=d: getattr(F, f"max_pool{d}d")(h, 2), f"max_pool{d}d|MaxPool{d}d",
                dimensions=d) for d in (1, 2, 3)),
    *(_function(f"F.avg_pool{d}d", lambda h, d=d: getattr(F, f"avg_pool{d}d")(h, 2), f"avg_pool{d}d|AvgPool{d}d",
                dimensions=d) for d in (1, 2, 3)),
    _function("F.avg_pool2d(divisor_override=)", lambda h: F.avg_pool2d(h, 2, divisor_override=3),
              "avg_pool2d|AvgPool2d"),
    *(_function(f"F.adaptive_avg_pool{d}d", lambda h, d=d: getattr(F, f"adaptive_avg_pool{d}d")(h, 1),
                f"adaptive_avg_pool{d}d|AdaptiveAvgPool{d}d", dimensions=d) for d in (1, 2, 3)),
    *(_function(f"F.adaptive_max_pool{d}d", lambda h, d=d: getattr(F, f"adaptive_max_pool{d}d")(h, 1),
                f"adaptive_max_pool{d}d|AdaptiveMaxPool{d}d", dimensions=d) for d in (1, 2, 3)),
    _function("F.max_pool2d(return_indices=True)", lambda h: F.max_pool2d(h, 2, return_indices=True)[0],
              "max_pool2d|MaxPool2d|getitem"),
    _function("F.lp_pool2d", lambda h: F.lp_pool2d(h, 2, 2)),
    _function("F.fractional_max_pool2d", lambda h: F.fractional_max_pool2d(h, 2, output_size=2)),
    _function("F.interpolate", lambda h: F.interpolate(h, scale_factor=2), "[iI]nterpolate"),
    _function("F.interpolate(mode=bilinear)", lambda h: F.interpolate(h, size=(7, 7), mode="bilinear"),
              "[iI]nterpolate|Upsample", flat=True),
    _function("F.interpolate(mode=bilinear, antialias=True)",
              lambda h: F.interpolate(h, size=(3, 3), mode="bilinear", antialias=True), "[iI]nterpolate", flat=True),
    _function("F.interpolate(mode=bicubic)", lambda h: F.interpolate(h, size=(3, 3), mode="bicubic"), "[iI]nterpolate"),
    _function("F.interpolate(mode=area)", lambda h: F.interpolate(h, size=(2, 3), mode="area"),
              "[iI]nterpolate|AdaptiveAvgPool2d"),
    _function("F.interpolate to a signal's size", lambda h: F.interpolate(F.avg_pool2d(h, 2), size=h.shape[2:]) + h,
              "[iI]nterpolate|[aA]dd", branches=True),
    _function("F.grid_sample", lambda h: F.grid_sample(
        h, F.affine_grid(torch.eye(2, 3, dtype=h.dtype)[None].repeat(2, 1, 1)[:1].expand(h.shape[0], -1, -1), h.shape,
                         align_corners=False), align_corners=False), "grid_sample|affine_grid"),
    # layers as functions
    *(_convolution(function, d) for d, function in enumerate((F.conv1d, F.conv2d, F.conv3d), 1)),
    *(_convolution(function, d) for d, function in enumerate(
        (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), 1)),
    Case("F.linear", lambda: Call(lambda h, m: F.linear(h, m.inner.weight, m.inner.bias), inner=nn.Linear(12, 6)), 0,
         names="linear|Linear", plain=lambda op: [op.inner]),
    Case("h @ parameter", lambda: Call(lambda h, m: h @ m.inner.weight.T, inner=nn.Linear(12, 6, bias=False)), 0,
         names="matmul|getattr|T", plain=lambda op: [op.inner]),
    Case("torch.addmm", lambda: Call(lambda h, m: torch.addmm(m.inner.bias, h, m.inner.weight.t()),
         inner=nn.Linear(12, 6)), 0, names=r"addmm|\bt\b", plain=lambda op: [op.inner]),
    _function("torch.einsum", lambda h, m: torch.einsum("nchw,kc->nkhw", h, m.p.c), p=_constant(3, 4)),
    _function("torch.tensordot", lambda h, m: torch.tensordot(h, m.p.c, dims=([1], [0])), p=_constant(4, 3)),
    _function("torch.matmul", lambda h, m: torch.matmul(h, m.p.c), p=_constant(4, 3)),
    _function("F.batch_norm", lambda h, m: F.batch_norm(h, m.n.running_mean, m.n.running_var), "batch_norm|BatchNorm",
              n=lambda: nn.BatchNorm2d(4, affine=False), plain=lambda op: [op.n]),
    _function("F.batch_norm(training=True)", lambda h: F.batch_norm(h, None, None, training=True),
              "batch_norm|BatchNorm"),
    _function("F.layer_norm", lambda h: F.layer_norm(h, (4, 4, 4)), "layer_norm|LayerNorm",
              norm=_constant_deviation(1)),
    _function("F.group_norm", lambda h: F.group_norm(h, 2)),
    _function("F.instance_norm", lambda h: F.instance_norm(h)),
    _function("F.rms_norm", lambda h: F.rms_norm(h, (4, 4, 4)), "rms_norm|RMSNorm",
              norm=_constant_deviation(1, centred=False, eps=torch.finfo(torch.float64).eps)),
    _function("F.local_response_norm", lambda h: F.local_response_norm(h, 2)),
    _function("F.normalize", lambda h: F.normalize(h), "normalize|Normalize",
              norm=lambda x, _: x / x.detach().square().sum(1, keepdim=True).sqrt()),
    _function("F.normalize(p=1)", lambda h: F.normalize(h, p=1), "normalize"),
    _function("F.normalize over the batch", lambda h: F.normalize(h, dim=0), "normalize"),
    _function("F.normalize over the batch, from the end", lambda h: F.normalize(h, dim=-4), "normalize|Normalize"),
    _function("F.softmax", lambda h: F.softmax(h, 1)),
    _function("F.log_softmax", lambda h: F.log_softmax(h, 1)),
    _function("F.softmin", lambda h: F.softmin(h, 1)),
    _function("F.gumbel_softmax", lambda h: F.gumbel_softmax(h, dim=1)),
    _function("F.glu", lambda h: F.glu(h, 1)),
    _function("F.cosine_similarity", lambda h: F.cosine_similarity(h, _turned(h))),
    _function("F.bilinear", lambda h, m: F.bilinear(h, h, m.p.c), dimensions=0, p=_constant(4, 12, 12)),
    _function("F.scaled_dot_product_attention",
              lambda h: F.scaled_dot_product_attention(h, _turned(h), h),
              r"scaled_dot_product_attention|MatMul|\bmul\b", attention=_attention_weights),
    _function("softmax(a @ b) @ c", lambda h: (h @ _turned(h)).softmax(-1) @ h, "[mM]at[mM]ul|[sS]oftmax",
              attention=lambda h: (h @ _turned(h)).softmax(-1)),
    _function("torch.linalg.norm", lambda h: torch.linalg.norm(h, dim=(2, 3)), "norm"),
    _function("torch.linalg.inv", lambda h: torch.linalg.inv(h), "inv"),
    _function("torch.linalg.svdvals", lambda h: torch.linalg.svdvals(h), "svdvals"),
    _function("torch.fft.rfft2", lambda h: torch.fft.rfft2(h).abs(), "rfft2|abs"),
    _function("torch.fft.fft", lambda h: torch.fft.fft(h).real, "fft|real|getattr"),
    _function("torch.cdist", lambda h: torch.cdist(h.flatten(2), _turned(h).flatten(2))),
    _function("torchvision.ops.deform_conv2d", lambda h, m: deform_conv2d(
        h, torch.zeros(h.shape[0], 18, 4, 4, dtype=h.dtype), m.c.weight, padding=1), "deform_conv2d|zeros|shape",
        c=lambda: nn.Conv2d(4, 4, 3)),
    # layers with a parametrisation
    Case("weight_norm(Conv2d), old", lambda: weight_norm(nn.Conv2d(4, 6, 3)), names="Conv2d|norm"),
    Case("weight_norm(Linear), old", lambda: weight_norm(nn.Linear(12, 6)), 0, names="Linear|norm"),
    Case("weight_norm(Conv2d)", lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), names="Conv2d|norm"),
    Case("weight_norm(ConvTranspose2d)", lambda: parametrizations.weight_norm(nn.ConvTranspose2d(4, 6, 3)),
         names="ConvTranspose2d|norm"),
    Case("spectral_norm(Conv2d), old", lambda: spectral_norm(nn.Conv2d(4, 6, 3)), names="Conv2d|norm"),
    Case("spectral_norm(Conv2d)", lambda: parametrizations.spectral_norm(nn.Conv2d(4, 6, 3)), names="Conv2d|norm"),
    Case("orthogonal(Linear)", lambda: parametrizations.orthogonal(nn.Linear(12, 6)), 0, names="Linear|orthogonal"),
    Case("weight_norm(Conv2d), BatchNorm2d",
         lambda: nn.Sequential(parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), nn.BatchNorm2d(6)),
         names="Conv2d|norm|BatchNorm2d"),
    # at the end of the network
    *(_function(f"ends in {name}", function, names, head=True) for name, function, names in (
        ("softmax", lambda h: h.mean((2, 3)).softmax(1), "softmax|mean"),
        ("log_softmax", lambda h: F.log_softmax(h.flatten(1), 1), "log_softmax|flatten"),

        ("mean", lambda h: h.mean((2, 3)), "[mM]ean"),
        ("max", lambda h: h.amax((2, 3)), "amax"),
        ("sum", lambda h: h.sum((2, 3)), "[sS]um"))),
    *(Case(f"ends in {name}", build, head=True, names=names) for name, build, names in (
        ("pooling", lambda: nn.AdaptiveAvgPool2d(1), "AdaptiveAvgPool2d"),
        ("ReLU and pooling", lambda: nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1)), "AdaptiveAvgPool2d|ReLU"),
        ("nn.Sigmoid", lambda: nn.Sequential(nn.Flatten(), nn.Sigmoid()), "Sigmoid|Flatten"),
        ("nn.Softmax", lambda: nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Softmax(1)), "Softmax"),
        ("nn.Linear, nn.Softmax", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Softmax(1)), "Softmax"),
        ("nn.Linear, nn.LogSoftmax", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.LogSoftmax(1)),
         "LogSoftmax"),
        ("nn.Linear, times 3", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), Call(lambda h: 3 * h)), "mul"),
        ("nn.Linear, BatchNorm1d", lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.BatchNorm1d(5)),
         "BatchNorm1d"))),
]  # fmt: skip


# What is no part of a model's forward: it fills with random numbers, resizes or moves memory, or approximates, by
# chance, to rounding.
NO_OPERATION = {
    "set_", "resize_", "resize_as_", "share_memory_", "requires_grad_", "bernoulli_", "cauchy_", "exponential_",
    "geometric_", "log_normal_", "normal_", "random_", "uniform_", "empty_like", "nextafter", "lobpcg",
    "pca_lowrank", "svd_lowrank",
}  # fmt: skip

# Calls that `discovered` tries with every function, as they are written.
CALLS: dict[str, Callable[[Any, Any], Any]] = {
    "h": lambda f, h: f(h),
    "h, 1": lambda f, h: f(h, 1),
    "h, 0.5": lambda f, h: f(h, 0.5),
    "h, (2, 3)": lambda f, h: f(h, (2, 3)),
    "h, 1, 2": lambda f, h: f(h, 1, 2),
    "h, 0.2, 0.7": lambda f, h: f(h, 0.2, 0.7),
    "a, b": lambda f, h: f(h, _turned(h)),
    "a, b, a": lambda f, h: f(h, _turned(h), h),
    "[a, b], 1": lambda f, h: f([h, _turned(h)], 1),
}


def discovered() -> list[Case]:
    """Every function and tensor method of torch that takes a signal and returns one, in each call that it accepts.

    Those of `FUNCTIONS` are among them: this finds what a list forgets, and what torch adds.
    """
    found: dict[str, Case] = {}
    h = torch.rand(3, 4, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 0.5
    for owner, functions in torch.overrides.get_overridable_functions().items():
        for function in functions:
            name = getattr(function, "__name__", "")
            if not callable(function) or name.startswith("_") or name in NO_OPERATION:
                continue
            if owner is torch.Tensor:
                prefix, call = "h", lambda h, *more, name=name: getattr(h, name)(*more)  # a model's way to call it
            else:
                prefix, call = owner.__name__.replace("torch.nn.functional", "F"), function
            for written, how in CALLS.items():
                if owner is torch.Tensor and written.startswith("["):
                    continue
                for op in (functools.partial(how, call), lambda h, how=how, call=call: how(call, h)[0]):
                    if all(_is_operation(op, h[:count]) for count in (3, 2, 1)):
                        key = f"{prefix}.{name}({written})"
                        names = f"(?i){name.strip('_')}|{name.replace('_', '')}|getitem"
                        attention = None
                        if (name, written) == ("scaled_dot_product_attention", "a, b, a"):
                            attention, names = _attention_weights, rf"{names}|matmul|\bmul\b"
                        found[key] = Case(key, functools.partial(Call, op), positive=True, names=names,
                                          attention=attention)  # fmt: skip
                        break
    return list(found.values())


def _is_operation(op: Callable[[Tensor], Any], h: Tensor) -> bool:
    """Whether a function makes another tensor of float64 of each image.

    It may take the batch for something else at one number of images: `squeeze` at one, `split` at two, `cross` at
    three.
    """
    try:
        with torch.random.fork_rng(), torch.no_grad():
            one, other = op(h.clone()), op(h + torch.rand_like(h))
        return bool(
            isinstance(one, Tensor) and one.dtype == h.dtype and one.dim() > 0 and len(one) == len(h)
            and one.layout == torch.strided and one.isfinite().all() and (one != other).any()
        )  # fmt: skip
    except Exception:  # whatever a function says to arguments that are not its own
        return False
