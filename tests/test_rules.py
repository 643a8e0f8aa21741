"""Every rule against a slow dense float64 reference that builds the full matrix z_ij."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from rapbench.relevance import Options, Step
from rapbench.relevance.aaai import AAAI
from rapbench.relevance.engine import Network  # noqa: F401  registers the rules
from rapbench.relevance.operations import Add, Cat, Mean
from rapbench.relevance.rules import RULES, Rules, divisor

CHECK = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


def run(module: nn.Module, inputs: tuple[Tensor, ...], relevance: Tensor, kappa: int, first: bool = False,
        rules: Rules = RULES, **options: object) -> tuple[Tensor, ...]:  # fmt: skip
    nonnegative = tuple(bool((x >= 0).all()) for x in inputs)
    shapes = tuple(x.shape for x in inputs)
    step = Step(module, inputs, first, Options(**options), shapes=shapes, nonnegative=nonnegative)
    with torch.no_grad():
        return rules[type(module)](step, relevance.clone(), kappa)


def matrix(module: nn.Module, shape: torch.Size) -> Tensor:
    """The dense weights (inputs, outputs) of a linear layer without its bias, one basis vector at a time."""
    basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
    with torch.no_grad():
        return (module(basis) - module(torch.zeros(1, *shape, dtype=torch.float64))).flatten(1)


def ratio(z: Tensor) -> Tensor:
    """z_ij / sum_i z_ij, 0 where the sum is 0; z: (inputs, outputs)."""
    total = z.sum(0)
    return torch.where(total == 0, 0, z / torch.where(total == 0, 1, total))


def dense(weights: Tensor, m: Tensor, relevance: Tensor, kappa: int, mixed: str) -> Tensor:
    """RAP (7) or (8) for one sample, from the printed formula."""
    up, down = weights.clamp(min=0), weights.clamp(max=0)
    if kappa < 0:
        up, down = down, up
    one, two = m.clamp(min=0)[:, None] * up, m.clamp(max=0)[:, None] * down
    shares = ratio(one + two) if mixed == "joint" else ratio(one) + ratio(two)
    return shares @ relevance


def dense_zbox(weights: Tensor, x: Tensor, relevance: Tensor, swapped: bool) -> Tensor:
    low, high = (x.max(), x.min()) if swapped else (x.min(), x.max())
    q = x[:, None] * weights - low * weights.clamp(min=0) - high * weights.clamp(max=0)
    return ratio(q) @ relevance


def dense_bias(relevance: Tensor, bias: Tensor, kappa: int, divisor: str) -> Tensor:
    """RAP (10), unit by unit; relevance: (channels, *spatial)."""
    area = relevance[0].numel() ** (1 if divisor == "area" else 2)
    corrected = relevance.clone()
    for channel in range(len(bias)):
        corrected[channel] -= kappa * (bias[channel] - bias.mean()) / area
    return corrected


@st.composite
def layers(draw: st.DrawFn) -> tuple[nn.Module, Tensor, Tensor]:
    """A linear layer of any kind, an input and an output relevance, drawn from a seed."""
    torch.manual_seed(draw(st.integers(0, 2**31)))
    dimensions = draw(st.sampled_from([0, 1, 2, 3]))
    bias = draw(st.booleans())
    if dimensions == 0:
        module: nn.Module = nn.Linear(draw(st.integers(1, 6)), draw(st.integers(1, 5)), bias=bias)
        x = torch.randn(2, module.in_features)
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
    except RuntimeError:  # the dilated kernel is larger than the input
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
            r = dense_bias(r, module.bias.detach(), kappa, divisor)
        want = dense(weights, x[sample].flatten(), r.flatten(), kappa, mixed)
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-9, atol=1e-12)


@CHECK
@given(layers(), st.booleans())
def test_input_layer_equals_the_dense_zbox(layer, swapped):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    (got,) = run(module, (x,), relevance, 1, first=True, bias_correction=False,
                 input_rule="zbox_swapped" if swapped else "zbox")  # fmt: skip
    for sample in range(len(x)):
        want = dense_zbox(weights, x[sample].flatten(), relevance[sample].flatten(), swapped)
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
        step.more_flows = True
        RULES[type(module)](step, relevance.clone(), kappa)
        step.more_flows = False
        (got,) = RULES[type(module)](step, relevance.clone(), -kappa)
    for sample in range(len(x)):
        want = dense(weights, x[sample].flatten(), relevance[sample].flatten(), -kappa, "joint")
        # where limit is 0, a total of nothing but rounding may pass for one, but then hands on nothing either
        torch.testing.assert_close(got[sample].flatten(), want, rtol=1e-7, atol=1e-9)


def test_a_difference_is_taken_where_nothing_cancels_and_only_there():
    module = nn.Conv1d(1, 1, 2).double()
    module.weight.data = torch.tensor([[[1.0, -1.0]]]).double()
    for small, taken in ((0.5, True), (1e-3, False), (0.0, False)):
        x = torch.tensor([[[1.0, small, 1.0]]]).double()
        step = Step(module, (x,), False, Options(), module(x).detach(), (x.shape,), (True,), more_flows=True)
        with torch.no_grad():
            RULES[nn.Conv1d](step, torch.ones(1, 1, 2).double(), 1)
        assert ("opposite" in step.shared) == taken


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
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(2, 3), st.integers(1, 3), st.integers(0, 1), st.booleans())
def test_pooling_shares_by_the_winner_or_in_proportion(seed, dimensions, kernel, stride, padding, largest):
    torch.manual_seed(seed)
    kinds = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d) if largest else (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
    module = kinds[dimensions - 1](kernel, stride, padding)
    m = torch.rand(2, 2, *[5] * dimensions).double()
    relevance = torch.randn_like(module(m))
    (got,) = run(module, (m,), relevance, 1)
    plain = nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d
    members = matrix(plain[dimensions - 1](kernel, stride, padding), m.shape[1:]) > 0  # which input is in which window
    for sample in range(2):
        z = members * m[sample].flatten()[:, None]
        shares = (z == z.max(0).values) & members if largest else ratio(z)
        want = shares.double() @ relevance[sample].flatten()
        torch.testing.assert_close(got[sample].flatten(), want)


@pytest.mark.parametrize("module", [Mean((2, 3)), Mean((-2, -1), keepdim=True), nn.AdaptiveAvgPool2d(1)])
def test_global_pooling_shares_in_proportion(module):
    m = torch.rand(2, 3, 4, 5).double()
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


def test_a_concatenation_splits():
    a, b = torch.rand(2, 3, 4, 4), torch.rand(2, 1, 4, 4)
    relevance = torch.randn(2, 4, 4, 4)
    got = run(Cat(1), (a, b), relevance, 1)
    assert torch.equal(torch.cat(got, 1), relevance)
    assert [part.shape for part in got] == [a.shape, b.shape]


def test_a_vanishing_total_drops_its_relevance_and_says_so():
    step = Step(nn.Identity(), (), False, Options(), count_dropped=True)
    shared = step.share(torch.tensor([[3.0, 4.0, 5.0]]), divisor(torch.tensor([[0.0, 2.0, 1e-40]]), signed=False))
    assert shared.tolist() == [[0.0, 2.0, 0.0]]
    assert step.dropped.tolist() == [8.0]


def dense_aaai(weights: Tensor, m: Tensor, relevance: Tensor, fully_connected: bool) -> Tensor:
    """One sample through `rap_aaai`'s hidden layer, unit by unit, from the formulas."""
    z = m[:, None] * weights
    excitatory, inhibitory = z.clamp(min=0), -z.clamp(max=0)
    handed = torch.zeros(len(m)).double()
    for j, r in enumerate(relevance):
        p, n = excitatory[:, j].sum(), inhibitory[:, j].sum()
        if r == 0 or p + n == 0:
            continue
        plus, minus = r.clamp(min=0), r.clamp(max=0)
        over_p = excitatory[:, j] / p if p > 0 else torch.zeros(len(m)).double()
        over_n = inhibitory[:, j] / n if n > 0 else torch.zeros(len(m)).double()
        handed += over_p * plus + over_n * n / (p + n) * (plus + minus)
        handed += (over_p if fully_connected else over_n) * minus
    touched = handed != 0
    if touched.any():
        handed[touched] -= (handed.sum() - relevance.sum()) / touched.sum()
    return handed


@CHECK
@given(layers())
def test_the_later_variants_layers_equal_the_dense_formula(layer):
    module, x, relevance = layer
    weights = matrix(module, x.shape[1:])
    (got,) = run(module, (x,), relevance, 1, rules=AAAI)
    for sample in range(len(x)):
        want = dense_aaai(weights, x[sample].flatten(), relevance[sample].flatten(), isinstance(module, nn.Linear))
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


def test_the_later_variants_batch_norm_and_seed():
    norm, relevance = nn.BatchNorm1d(3).double().eval(), torch.tensor([[1.0, 2.0, 3.0]]).double()
    norm.weight.data[2] = 0
    got = run(norm, (torch.tensor([[5.0, 0.0, 4.0]]).double(),), relevance, 1, rules=AAAI)
    assert got[0].tolist() == [[1.0, 0.0, 0.0]]
    # z = (4, -1), bias 2, logit 5: r = z (1 + 2/3) = (20/3, -5/3); absolute shares 4/5 and 1/5 of 5
    head = nn.Linear(2, 1).double()
    head.weight.data, head.bias.data = torch.tensor([[2.0, -1.0]]).double(), torch.tensor([2.0]).double()
    got = seed(head, torch.tensor([[2.0, 1.0]]).double(), torch.tensor([0]), torch.tensor([5.0]))
    torch.testing.assert_close(got, torch.tensor([[4.0, 1.0]]).double())
