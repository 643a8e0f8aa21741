"""Every rule against a slow dense float64 reference that builds the full matrix z_ij."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import rapbench
from rapbench.relevance import Flow, Options, Step
from rapbench.relevance.aaai import AAAI
from rapbench.relevance.composites import Composite
from rapbench.relevance.linear import Folded
from rapbench.relevance.lrp import LRP
from rapbench.relevance.lrp_rules import AlphaBeta, Epsilon, Flat, Gamma, WSquare, ZBox
from rapbench.relevance.network import Network  # noqa: F401  registers the rules
from rapbench.relevance.operations import Add, Cat, Interpolate, Mean, Sum
from rapbench.relevance.rap import opposite_total
from rapbench.relevance.rules import RULES, Rules, divisor
from tests import dense
from tests.dense import matrix

CHECK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def run(module: nn.Module, inputs: tuple[Tensor, ...], relevance: Tensor, kappa: int = 1, first: bool = False,
        rules: Rules = RULES, head: bool = False, given: object = None,
        **options: object) -> tuple[Tensor, ...]:  # fmt: skip
    """Apply a rule, the last linear layer's with `head`, and check that it accounts for all that it was given.

    given: the rules' options, RAP's from `options` by default.
    """
    nonnegative = tuple(bool((x >= 0).all()) for x in inputs)
    shapes = tuple(x.shape for x in inputs)
    rule = rules.head if head else rules[type(module)]
    results = []
    for count in (False, True):
        flow = Flow(relevance.clone(), kappa)
        step = Step(module, inputs, first, given or Options(**options), shapes=shapes, nonnegative=nonnegative,
                    count_dropped=count)  # fmt: skip
        with torch.no_grad():
            (handed,) = rule(step, [flow])
            results.append(handed)
    assert all(torch.equal(one, other) for one, other in zip(*results, strict=True) if one is not None)
    got = sum(part.flatten(1).sum(1) for part in results[0] if part is not None)
    error = got + flow.dropped - flow.times * relevance.flatten(1).sum(1)
    assert (error.abs() <= 1e-9 * (1 + relevance.abs().sum() + torch.as_tensor(flow.dropped).abs().sum())).all()
    return results[0]


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear layer of any kind, an input and an output relevance, drawn from a seed."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dimensions = draw(st.sampled_from([0, 1, 2, 3]))
    bias = draw(st.booleans())
    if dimensions == 0:
        module: nn.Module = nn.Linear(draw(st.integers(1, 6)), draw(st.integers(1, 5)), bias=bias)
        x = torch.randn(2, module.in_features)
    elif draw(st.booleans()):
        groups, stride, dilation = draw(st.sampled_from([1, 2])), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        module = [nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d][dimensions - 1](
            2 * groups, draw(st.integers(1, 2)) * groups, draw(st.integers(1, 3)), stride, draw(st.integers(0, 1)),
            draw(st.integers(0, max(stride, dilation) - 1)), groups, bias, dilation,
        )  # fmt: skip
        x = torch.randn(2, 2 * groups, *[draw(st.integers(2, 3))] * dimensions)
    else:
        groups = draw(st.sampled_from([1, 2]))
        kernel = draw(st.integers(1, 3))
        same = draw(st.booleans())
        module = [nn.Conv1d, nn.Conv2d, nn.Conv3d][dimensions - 1](
            2 * groups, draw(st.integers(1, 2)) * groups, kernel, stride=1 if same else draw(st.integers(1, 2)),
            padding="same" if same else draw(st.integers(0, 1)), dilation=draw(st.integers(1, 2)), groups=groups,
            bias=bias,
        )  # fmt: skip
        x = torch.randn(2, 2 * groups, *[draw(st.integers(3, 5))] * dimensions)
    module, x = module.double(), x.double()
    sparse = draw(st.sampled_from(["mixed", "rectified", "zeros"]))
    x = x if sparse == "mixed" else x.relu() if sparse == "rectified" else x.relu() * (torch.rand_like(x) > 0.7)
    try:
        out = module(x)
    except RuntimeError:  # the dilated kernel is larger than the input, or nothing is left of it
        assume(False)
    return module, x, torch.randn_like(out).detach()


@CHECK
@given(
    layers(), st.sampled_from([1, -1]), st.sampled_from(["joint", "printed"]), st.sampled_from(["area", "area_squared"])
)
def test_linear_layers_equal_the_dense_formula(layer, kappa, mixed, divisor):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    (got,) = run(module, (x,), relevance, kappa, mixed_sign=mixed, bias_divisor=divisor)
    for sample in range(len(x)):
        r = relevance[sample]
        if module.bias is not None:
            r = dense.bias_correction(r, module.bias.detach(), kappa, divisor)
        want = dense.flow(weights, x[sample].flatten(), r.flatten(), kappa, mixed)
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-9, atol=1e-12)


@CHECK
@given(layers(), st.booleans())
def test_input_layer_equals_the_dense_zbox(layer, swapped):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    (got,) = run(module, (x,), relevance, 1, first=True, bias_correction=False,
                 input_rule="zbox_swapped" if swapped else "zbox")  # fmt: skip
    for sample in range(len(x)):
        want = dense.zbox(weights, x[sample].flatten(), relevance[sample].flatten(), swapped)
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-7, atol=1e-9)


@CHECK
@given(layers(), st.sampled_from([1, -1]), st.floats(0, 1))
def test_totals_taken_as_a_difference_equal_the_dense_formula(layer, kappa, limit):
    """Whichever flow comes first leaves the other its totals, unless too much would cancel."""
    module, x, relevance = layer
    x = x.relu()
    weights = matrix(module, x.shape[1:])
    step = Step(module, (x,), False, Options(bias_correction=False), module(x).detach(), (x.shape,), (True,))
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr("rapbench.relevance.rap.WELL_CONDITIONED", limit)
        flows = [Flow(relevance.clone(), sign) for sign in (kappa, -kappa)]
        _, (got,) = RULES[type(module)](step, flows)
    for sample in range(len(x)):
        want = dense.flow(weights, x[sample].flatten(), relevance[sample].flatten(), -kappa, "joint")
        # where limit is 0, a total of nothing but rounding may pass for one, but then hands on nothing either
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-7, atol=1e-9)


def test_a_difference_is_taken_where_nothing_cancels_and_only_there():
    module = nn.Conv1d(1, 1, 2).double()
    module.weight.data = torch.tensor([[[1.0, -1.0]]]).double()
    for small, taken in ((0.5, True), (1e-3, False), (0.0, False)):
        x = torch.tensor([[[1.0, small, 1.0]]]).double()
        with torch.no_grad():
            total = F.conv1d(x, module.weight.clamp(min=0))
            found = opposite_total(module, module(x), total, 1)
        assert (found is not None) == taken
        if found is not None:
            torch.testing.assert_close(found, F.conv1d(x, -module.weight.clamp(max=0)))


def test_input_layer_without_zbox_is_a_hidden_layer():
    torch.manual_seed(0)
    module, x = nn.Conv2d(3, 4, 3).double(), torch.randn(1, 3, 6, 6).double()
    relevance = torch.randn_like(module(x))
    hidden = run(module, (x,), relevance, -1)
    assert torch.equal(run(module, (x,), relevance, -1, first=True, input_rule="same_as_hidden")[0], hidden[0])


@pytest.mark.parametrize("kappa", [1, -1])
def test_flipping_the_inversion_sign_changes_the_inversion_flow_only(kappa):
    torch.manual_seed(0)
    module, x = nn.Linear(5, 4).double(), torch.rand(2, 5).double()
    relevance = torch.randn(2, 4).double()
    (kept,), (flipped,) = (run(module, (x,), relevance, kappa, inversion_sign=sign) for sign in ("keep", "flip"))
    assert torch.equal(flipped, kappa * kept)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("kappa", [1, -1])
def test_batch_norm_equals_the_formula_unit_by_unit(dimensions, kappa):
    torch.manual_seed(0)
    module = [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][dimensions - 1](3).double().eval()
    module.running_mean.normal_(), module.running_var.uniform_(0.5, 2)
    module.weight.data.normal_(), module.bias.data.normal_()
    z = torch.randn(2, 3, *[4] * dimensions).double()
    relevance = torch.randn_like(z) * (torch.rand_like(z) > 0.3)
    (got,) = run(module, (z,), relevance, kappa)
    for sample in range(2):
        shifts, units = [], z[sample].numel()
        for channel in range(3):
            scale = module.weight[channel] / (module.running_var[channel] + module.eps) ** 0.5
            normed = (z[sample, channel] - module.running_mean[channel]) * scale + module.bias[channel]
            shifts.append(torch.where(relevance[sample, channel] != 0, normed - z[sample, channel], 0))
        shift = torch.stack(shifts)
        want = relevance[sample] - kappa * (shift - shift.sum() / units) / units
        torch.testing.assert_close(got[sample], want.detach())
    torch.testing.assert_close(got.flatten(1).sum(1), relevance.flatten(1).sum(1))
    assert torch.equal(run(module, (z,), relevance, kappa, batchnorm_correction=False)[0], relevance)


@CHECK
@given(
    st.integers(0, 2**31),
    st.integers(1, 3),
    st.integers(2, 3),
    st.integers(1, 3),
    st.integers(0, 1),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1e-6, 0.1]),
)
def test_pooling_shares_by_the_winner_or_in_proportion(
    seed, dimensions, kernel, stride, padding, largest, signed, stabilizer
):
    torch.manual_seed(seed)
    kinds = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d) if largest else (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
    module = kinds[dimensions - 1](kernel, stride, padding)
    m = torch.randn(2, 2, *[5] * dimensions).double()
    m = m if signed else m.abs()
    relevance = torch.randn_like(module(m))
    (got,) = run(module, (m,), relevance, stabilizer=stabilizer)
    plain = nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d
    weights = matrix(plain[dimensions - 1](kernel, stride, padding), m.shape[1:])
    for sample in range(2):
        flat, r = m[sample].flatten(), relevance[sample].flatten()
        if largest:
            z = torch.where(weights > 0, flat[:, None], -torch.inf)  # which input is in which window
            want = (z == z.max(0).values).double() @ r
        else:
            want = dense.average(weights, flat, r, stabilizer)
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "module", [Mean((2, 3)), Mean((-2, -1), keepdim=True), nn.AdaptiveAvgPool2d(1), Sum((2, 3)), Sum([3, 2], True)]
)
def test_global_pooling_shares_in_proportion(module, signed):
    torch.manual_seed(0)
    m = torch.randn(2, 3, 4, 5).double()
    m = m if signed else m.abs()
    relevance = torch.randn_like(module(m))
    (got,) = run(module, (m,), relevance, -1)
    torch.testing.assert_close(got, m / m.sum((2, 3), keepdim=True) * relevance.view(2, 3, 1, 1))


def test_an_addition_shares_in_proportion_to_its_summands():
    a, b = torch.tensor([[3.0, -1.0, 2.0]]).double(), torch.tensor([[1.0, 3.0, -2.0]]).double()
    relevance = torch.tensor([[8.0, 4.0, 5.0]]).double()
    got = run(Add(), (a, b), relevance, 1)
    torch.testing.assert_close(got[0], torch.tensor([[6.0, -2.0, 0.0]]).double())
    torch.testing.assert_close(got[1], torch.tensor([[2.0, 6.0, 0.0]]).double())
    got = run(Add(), (a, b), relevance, 1, residual="absolute")
    torch.testing.assert_close(got[0], torch.tensor([[6.0, 1.0, 2.5]]).double())
    torch.testing.assert_close(got[1], torch.tensor([[2.0, 3.0, 2.5]]).double())


@pytest.mark.parametrize("stabilizer", [0.0, 0.5])
@pytest.mark.parametrize("residual", ["proportional", "absolute"])
@pytest.mark.parametrize("signs", [(0, 0), (0, 1), (1, 1), (-1, -1)])
def test_an_addition_broadcasts_and_takes_either_sign(signs, residual, stabilizer):
    """signs: 1 is non-negative, -1 non-positive, 0 both."""
    torch.manual_seed(0)
    a, b = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 1, 1).double()
    a, b = (x if sign == 0 else sign * x.abs() for x, sign in zip((a, b), signs, strict=True))
    relevance = torch.randn_like(a)
    got = run(Add(), (a, b), relevance, residual=residual, stabilizer=stabilizer)
    one, other = (a, b) if residual == "proportional" else (a.abs(), b.abs())
    shared = relevance / (one + other + stabilizer * torch.ones_like(a).copysign(one + other))
    torch.testing.assert_close(got[0], one * shared)
    torch.testing.assert_close(got[1], (other * shared).sum((2, 3), keepdim=True))


RESIZED = [
    nn.Upsample(scale_factor=2), nn.Upsample(size=(3, 7)), nn.UpsamplingNearest2d(scale_factor=3),
    nn.Upsample(scale_factor=1.7, mode="bilinear"), nn.Upsample(size=(2, 9), mode="bilinear", align_corners=True),
    nn.UpsamplingBilinear2d(size=(5, 5)), nn.Upsample(size=(4, 2), mode="nearest-exact"),
    Interpolate((2, 3), mode="bilinear", antialias=True), Interpolate(scale_factor=0.5),
]  # fmt: skip


@pytest.mark.parametrize("module", RESIZED, ids=str)
def test_resizing_returns_relevance_with_the_weights_that_made_each_output(module):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 4, 6).double()
    relevance = torch.randn_like(module(x))
    (got,) = run(module, (x,), relevance)  # which also checks that none is lost
    for sample in range(2):
        want = matrix(module, x.shape[1:]) @ relevance[sample].flatten()
        torch.testing.assert_close(got[sample].flatten(), want)


@pytest.mark.parametrize("mode", ["bicubic"])
def test_resizing_with_negative_weights_has_no_rule(mode):
    assert not RULES.knows(nn.Upsample(scale_factor=2, mode=mode))
    assert not RULES.knows(Interpolate(scale_factor=2, mode=mode))
    assert RULES.knows(nn.Upsample(scale_factor=2, mode="bilinear"))


@CHECK
@given(layers())
def test_the_last_layers_equal_the_dense_formulas(layer):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    for rules, formula in ((RULES, dense.first_propagation), (AAAI, dense.aaai_seed)):
        (got,) = run(module, (x,), relevance, 0, rules=rules, head=True)
        for sample in range(len(x)):
            want = formula(weights, x[sample].flatten(), relevance[sample].flatten())
            torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-9, atol=1e-12)


LRP_RULES = {
    "alpha1-beta0": (lambda how: AlphaBeta(1, how), lambda w, m, r, b: dense.alpha_beta(w, m, r, b, 1)),
    "alpha2-beta1": (lambda how: AlphaBeta(2, how), lambda w, m, r, b: dense.alpha_beta(w, m, r, b, 2)),
    "alpha1.3": (lambda how: AlphaBeta(1.3, how), lambda w, m, r, b: dense.alpha_beta(w, m, r, b, 1.3)),
    "epsilon 0": (lambda how: Epsilon(0.0, how), lambda w, m, r, b: dense.epsilon(w, m, r, b, 0.0)),
    "epsilon 0.1": (lambda how: Epsilon(0.1, how), lambda w, m, r, b: dense.epsilon(w, m, r, b, 0.1)),
    "gamma 0.25": (lambda how: Gamma(0.25, how), lambda w, m, r, b: dense.gamma(w, m, r, b, 0.25)),
    "gamma 3": (lambda how: Gamma(3.0, how), lambda w, m, r, b: dense.gamma(w, m, r, b, 3.0)),
    "flat": (lambda how: Flat(), lambda w, m, r, b: dense.flat(w, r)),
    "wsquare": (WSquare, lambda w, m, r, b: dense.wsquare(w, r, b)),
    "zbox, image": (lambda how: ZBox("image"), lambda w, m, r, b: dense.zbox(w, m, r, stabilizer=dense.STABILIZER)),
    "zbox": (lambda how: ZBox("pixels", torch.tensor(-0.5), torch.tensor(2.0)),
             lambda w, m, r, b: dense.zbox(w, m, r, bounds=(-0.5, 2.0), stabilizer=dense.STABILIZER)),
}  # fmt: skip


@pytest.mark.parametrize("rule", LRP_RULES)
@settings(CHECK, max_examples=12)
@given(layer=layers(), ignore=st.booleans(), norm=st.booleans())
def test_lrps_rules_equal_the_dense_formulas(rule, layer, ignore, norm):
    module, x, relevance = layer
    if norm:
        channels = len(module.bias) if module.bias is not None else module(x).shape[1]
        norms = (
            nn.BatchNorm1d
            if isinstance(module, nn.Linear)
            else [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d][x.dim() - 3]
        )
        behind = norms(channels).double().eval()
        behind.running_mean.normal_(), behind.running_var.uniform_(0.1, 2)
        behind.weight.data.normal_(), behind.bias.data.normal_()
        together: nn.Module = nn.Sequential(module, behind)
        module = Folded(module, behind)
    else:
        together = module
    weights, bias = matrix(together, x.shape[1:]), dense.offset(together, x.shape[1:])
    make, formula = LRP_RULES[rule]
    if rule == "flat":  # by which inputs an output has, even those whose weight is 0
        weights = reach(module, x.shape[1:])
    composite = Composite(rules={None: make("ignored" if ignore else "in_denominator")})
    (got,) = run(module, (x,), relevance, rules=LRP, given=composite)
    for sample in range(len(x)):
        flat, r = x[sample].flatten(), relevance[sample].flatten()
        if rule.startswith("gamma"):  # whose sign is the output's own, with its bias
            want = dense.gamma(weights, flat, r, 0 * bias if ignore else bias, float(rule.split()[1]), bias)
        else:
            want = formula(weights, flat, r, 0 * bias if ignore else bias)
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-6, atol=1e-9)


def reach(module: nn.Module, shape: torch.Size) -> Tensor:
    """1 where an output depends on an input, (inputs, outputs)."""
    ones = copy.deepcopy(module.layer if isinstance(module, Folded) else module)
    nn.init.ones_(ones.weight)
    return matrix(ones, shape).clamp(max=1)


def test_a_concatenation_splits():
    a, b = torch.rand(2, 3, 4, 4).double(), torch.rand(2, 1, 4, 4).double()
    relevance = torch.randn(2, 4, 4, 4).double()
    got = run(Cat(1), (a, b), relevance, 1)
    assert torch.equal(torch.cat(got, 1), relevance)
    assert [part.shape for part in got] == [a.shape, b.shape]


def test_a_vanishing_total_drops_its_relevance_and_says_so():
    step = Step(nn.Identity(), (), False, Options(), count_dropped=True)
    flow = Flow(torch.tensor([[3.0, 4.0, 5.0]]), 1)
    shared = step.share(flow, flow.relevance, divisor(torch.tensor([[0.0, 2.0, 1e-40]]), signed=False))
    assert shared.tolist() == [[0.0, 2.0, 0.0]]
    assert flow.dropped.tolist() == [8.0]


@CHECK
@given(layers())
def test_the_later_variants_layers_equal_the_dense_formula(layer):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    (got,) = run(module, (x,), relevance, 1, rules=AAAI)
    for sample in range(len(x)):
        want = dense.aaai(weights, x[sample].flatten(), relevance[sample].flatten(), isinstance(module, nn.Linear))
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-8, atol=1e-10)


def test_the_later_variant_by_hand():
    # unit 1: z = (2, 4, -3): P = 6, N = 3, R = 3: (1, 2, 0) over P, 3/3 * 3/9 * 3 = 1 over N: (1, 2, 1)
    # unit 2: z = (1, -1, 0): P = 1, N = 1, R = -2: nothing over P, 1/2 * -2 over N: (0, -1, 0), and once more in full:
    #         fully connected over P: (-2, 0, 0). Sum C = (-1, 1, 1); sum C = sum R = 1: no surplus.
    module, m = nn.Linear(3, 2, bias=False).double(), torch.tensor([[1.0, 1.0, 1.0]]).double()
    module.weight.data = torch.tensor([[2.0, 4.0, -3.0], [1.0, -1.0, 0.0]]).double()
    (got,) = run(module, (m,), torch.tensor([[3.0, -2.0]]).double(), 1, rules=AAAI)
    torch.testing.assert_close(got, torch.tensor([[-1.0, 1.0, 1.0]]).double())
    # as a convolution the last is over N: (0, -2, 0): C = (1, -1, 1), again with no surplus
    convolution = nn.Conv1d(3, 2, 1, bias=False).double()
    convolution.weight.data = module.weight.data.unsqueeze(2)
    (got,) = run(convolution, (m.unsqueeze(2),), torch.tensor([[[3.0], [-2.0]]]).double(), 1, rules=AAAI)
    torch.testing.assert_close(got, torch.tensor([[[1.0], [-1.0], [1.0]]]).double())
    # R = (3, 0): C = (1, 2, 1), one too many, a third of it from each
    (got,) = run(module, (m,), torch.tensor([[3.0, 0.0]]).double(), 1, rules=AAAI)
    torch.testing.assert_close(got, torch.tensor([[2 / 3, 5 / 3, 2 / 3]]).double())


def test_the_later_variants_batch_norm_and_last_layer():
    norm, relevance = nn.BatchNorm1d(3).double().eval(), torch.tensor([[1.0, 2.0, 3.0]]).double()
    norm.weight.data[2] = 0
    got = run(norm, (torch.tensor([[5.0, 0.0, 4.0]]).double(),), relevance, 1, rules=AAAI)
    assert got[0].tolist() == [[1.0, 0.0, 0.0]]
    # z = (4, -1), bias 2, logit 5: r = z (1 + 2/3) = (20/3, -5/3); absolute shares 4/5 and 1/5 of 5
    head = nn.Linear(2, 1).double()
    head.weight.data, head.bias.data = torch.tensor([[2.0, -1.0]]).double(), torch.tensor([2.0]).double()
    (got,) = run(head, (torch.tensor([[2.0, 1.0]]).double(),), torch.tensor([[5.0]]).double(), rules=AAAI, head=True)
    torch.testing.assert_close(got, torch.tensor([[4.0, 1.0]]).double())


class Patches(nn.Module):
    """A first layer that sees each image's patches: as rows of their own, or as a convolution does."""

    def __init__(self, rows: bool):
        super().__init__()
        torch.manual_seed(0)
        self.rows, self.conv, self.head = rows, nn.Conv2d(3, 5, 4, stride=4), nn.Linear(20, 4)

    def forward(self, x):
        if self.rows:
            x = x.reshape(len(x), 3, 2, 4, 2, 4).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, 4, 4)
            x = self.conv(x).relu().reshape(-1, 4, 5).transpose(1, 2).reshape(-1, 5, 2, 2)
        else:
            x = self.conv(x).relu()
        return self.head(x.flatten(1))


@pytest.mark.parametrize(("method", "options"), [("rap", {}), ("lrp_epsilon_gamma_box", {"box": "image"})])
def test_the_box_is_an_images_whether_or_not_the_first_layer_has_rows_of_it(method, options):
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rows, whole = (rapbench.attribute(Patches(rows).double(), x, 1, method, **options) for rows in (True, False))
    assert (rows - whole).abs().max() < 1e-12 * whole.abs().max()
