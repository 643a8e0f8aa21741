"""What must hold of RAP, on VGG and ResNet networks in float64."""

from fractions import Fraction

import pytest
import torch
from torch import nn

import rapbench
from rapbench.relevance import FLOWS, RULES, Balance, Flow, Network, Options, Rules, Step, explain, rule

OFF = {"bias_correction": False, "batchnorm_correction": False}


def two_layer_net() -> nn.Module:
    """x = (1, 2, 1) -> hidden z = (4, 1), both positive -> logits; worked by hand below."""
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU(), nn.Linear(2, 2)).double()
    net[0].weight.data = torch.tensor([[2.0, 2.0, -2.0], [3.0, -2.0, 2.0]]).double()
    net[0].bias.data = torch.zeros(2).double()
    net[2].weight.data = torch.tensor([[1.0, -1.0], [0.0, 0.0]]).double()
    net[2].bias.data = torch.zeros(2).double()
    return net.eval()


def test_a_two_layer_example_by_hand():
    # hidden: 2*1 + 2*2 - 2*1 = 4 and 3*1 - 2*2 + 2*1 = 1; logit 0: 4 - 1 = 3.
    # (5): z = (4, -1): the positive part gets +3, the negative part -3: R = (3, -3).
    # (7), same_as_hidden: unit 1 has products (2, 4, -2), excitatory sum 6: (2/6, 4/6, 0) * 3 = (1, 2, 0);
    #      unit 2 has (3, -4, 2), sum 5: (3/5, 0, 2/5) * -3.
    # (8): unit 1's inhibitory product is the third alone: (0, 0, 3); unit 2's the second alone: (0, -3, 0).
    normal = [1 - Fraction(9, 5), 2, -Fraction(6, 5)]
    inversion = [0, -3, 3]
    x = torch.tensor([[1.0, 2.0, 1.0]]).double()
    for flow, want in (("normal", normal), ("inversion", inversion),
                       ("both", [a + b for a, b in zip(normal, inversion, strict=True)])):  # fmt: skip
        got = rapbench.attribute(two_layer_net(), x, [0], input_rule="same_as_hidden", flow=flow)
        torch.testing.assert_close(got, torch.tensor([[float(value) for value in want]]).double())


def test_the_bias_correction_by_hand():
    # hidden biases (3, 1), one unit each (w h = 1): R' = R - kappa (b - 2) = (3 - kappa, -3 + kappa); as b enters
    # z only, the hidden units are (7, 2) and the logit is 5, so R = (5, -5): normal (4, -4), inversion (6, -6).
    net = two_layer_net()
    net[0].bias.data = torch.tensor([3.0, 1.0]).double()
    x = torch.tensor([[1.0, 2.0, 1.0]]).double()
    normal = rapbench.attribute(net, x, [0], input_rule="same_as_hidden", flow="normal")
    inversion = rapbench.attribute(net, x, [0], input_rule="same_as_hidden", flow="inversion")
    torch.testing.assert_close(normal, torch.tensor([[4 / 3 - 12 / 5, 8 / 3, -8 / 5]]).double())
    torch.testing.assert_close(inversion, torch.tensor([[0.0, -6.0, 6.0]]).double())


def test_the_first_propagation_gives_the_logit_to_each_sign():
    torch.manual_seed(0)
    module, inputs = nn.Linear(9, 5).double(), torch.rand(4, 9).double()
    logits = torch.zeros(4, 5).double()
    logits[range(4), [0, 3, 3, 4]] = torch.tensor([2.0, -1.0, 0.5, 3.0]).double()
    step = Step(module, (inputs,), False, Options(), nonnegative=(True,))
    with torch.no_grad():
        ((relevance,),) = RULES.head(step, [Flow(logits.clone(), 0)])
    one, other = relevance.clamp(min=0).sum(1), relevance.clamp(max=0).sum(1)
    logit = logits.sum(1)
    torch.testing.assert_close(torch.where(logit > 0, one, other), logit)
    torch.testing.assert_close(torch.where(logit > 0, other, one), -logit)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_target_row_of_one_sign_drops_half_and_the_record_says_so(sign):
    net, x = two_layer_net(), torch.tensor([[1.0, 2.0, 1.0]]).double()
    net[2].weight.data[0] = sign * torch.tensor([1.0, 2.0]).double()  # z = sign (4, 2): R = 6 sign, twice down
    balances: list[Balance] = []
    relevance = rapbench.attribute(net, x, [0], input_rule="same_as_hidden", balance=balances)
    head = [entry for entry in balances if entry.place == "2"]
    assert [entry.flow for entry in head] == ["normal", "inversion"]
    for entry in head:
        assert entry.relevance_out.tolist() == [0.0]
        # a negative logit makes the negative part, the only one, positive
        assert entry.relevance_in.tolist() == [6.0]
        assert entry.dropped.tolist() == [-6.0]
        assert entry.total.tolist() == [6.0]
    assert abs(relevance.sum() + sum(entry.dropped.sum() for entry in balances)) < 1e-12
    assert relevance.sum() > 6


@pytest.mark.parametrize("flow", ["both", "normal", "inversion"])
@pytest.mark.parametrize("corrections", [{}, OFF], ids=["corrected", "uncorrected"])
def test_relevance_sums_to_zero_but_for_what_is_dropped(network, images, targets, flow, corrections):
    balances: list[Balance] = []
    relevance = rapbench.attribute(network, images, targets, flow=flow, balance=balances, **corrections)
    dropped = sum(entry.dropped for entry in balances)
    scale = relevance.abs().flatten(1).sum(1)
    assert (relevance.flatten(1).sum(1) + dropped).abs().le(1e-9 * scale).all()
    assert relevance.shape == images.shape
    assert scale.min() > 0


def test_every_layer_balances(network, images, targets):
    balances: list[Balance] = []
    rapbench.attribute(network, images, targets, balance=balances)
    assert {entry.flow for entry in balances} == {"normal", "inversion"}
    for entry in balances:
        error = (entry.relevance_in + entry.dropped - entry.relevance_out).abs()
        assert error.max() < 1e-9, entry.place


@pytest.mark.parametrize("options", [{}, {"residual": "absolute"}, {"mixed_sign": "printed"}, {"flow": "normal"}])
def test_a_batch_is_its_images_one_by_one(network, images, targets, options):
    together = rapbench.attribute(network, images, targets, **options)
    for index in range(len(images)):
        alone = rapbench.attribute(network, images[index : index + 1], targets[index : index + 1], **options)
        scale = together[index].abs().max()
        assert (alone[0] - together[index]).abs().max() < 1e-10 * scale


@pytest.mark.parametrize("method", ["rap", "rap_aaai", "lrp_a1b0", "lrp_a2b1", "lrp_preset_b"])
@pytest.mark.parametrize("cached", [1, 100_000])
def test_images_that_go_down_a_few_at_a_time_are_the_batch(network, images, targets, method, cached, monkeypatch):
    monkeypatch.setattr("rapbench.relevance.images.CACHED", 2**40)
    whole = rapbench.attribute(network, images, targets, method)
    monkeypatch.setattr("rapbench.relevance.images.CACHED", cached)
    parts = rapbench.attribute(network, images, targets, method)
    assert (parts - whole).abs().max() < 1e-10 * whole.abs().max()


def test_doubling_the_last_layer_doubles_the_relevance(network, images, targets):
    before = rapbench.attribute(network, images, targets, **OFF)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.weight *= 2
        last.bias *= 2
    torch.testing.assert_close(rapbench.attribute(network, images, targets, **OFF), 2 * before)


def test_both_flows_are_the_sum_of_each(network, images, targets):
    flows = [rapbench.attribute(network, images, targets, flow=flow) for flow in ("normal", "inversion", "both")]
    torch.testing.assert_close(flows[0] + flows[1], flows[2])


@pytest.mark.parametrize("option", [
    {"inversion_sign": "flip"}, {"bias_divisor": "area_squared"}, {"input_rule": "zbox_swapped"},
    {"input_rule": "same_as_hidden"}, {"bias_correction": False},
])  # fmt: skip
def test_every_option_matters(images, targets, network, option):
    if network[0].bias is None if isinstance(network, nn.Sequential) else network.conv1.bias is None:
        option = {key: value for key, value in option.items() if "bias" not in key} or {"residual": "absolute"}
    default, other = (
        rapbench.attribute(network, images, targets),
        rapbench.attribute(network, images, targets, **option),
    )
    assert (default - other).abs().max() > 1e-6 * default.abs().max()


class Gate(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


def test_an_operation_without_a_rule_is_refused_before_any_computation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Softmax(1))
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.body(x).mean((2, 3)))

    with pytest.raises(rapbench.RapbenchError, match=r"no relevance rule for Softmax at body\.1.*relevance\.rule"):
        Network(Net().eval())


def test_a_functional_operation_is_named_with_its_place():
    class Inner(nn.Module):
        def forward(self, x):
            return x.exp()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.head = Inner(), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.inner(x))

    with pytest.raises(rapbench.RapbenchError, match="no relevance rule for exp at inner"):
        Network(Net().eval())


def test_a_model_that_cannot_be_traced_is_refused():
    with pytest.raises(rapbench.RapbenchError, match="Sequential cannot be traced"):
        Network(nn.Sequential(Gate(), nn.Linear(2, 2)))


def test_a_user_registers_a_rule_for_an_own_module():
    class Halve(nn.Module):
        def forward(self, x):
            return x / (1 + x.sum().item() * 0)  # cannot be traced into

    net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), Halve(), nn.Linear(3, 2)).double()
    with pytest.raises(rapbench.RapbenchError):
        rapbench.attribute(net, torch.rand(1, 3).double(), [0])

    @rule(Halve)
    def halve(step, flows):
        return [(flow.relevance,) for flow in flows]

    plain = nn.Sequential(net[0], net[1], nn.Identity(), net[3])
    x = torch.rand(2, 3).double()
    assert torch.equal(rapbench.attribute(net, x, 1), rapbench.attribute(plain, x, 1))


class Same(nn.Module):
    """Returns its input, by a rule of the user's own."""

    def forward(self, x):
        return x


def with_same(rule_of_same) -> tuple[nn.Module, Rules]:
    rules = Rules({}, *RULES.maps, head=RULES.head)
    rules.rule(Same)(rule_of_same)
    layers = [nn.Linear(4, 4), nn.ReLU(), Same(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)]
    return nn.Sequential(*layers).double(), rules


def test_a_rule_may_give_one_tensor_to_all_flows_though_others_overwrite_theirs():
    x, found = torch.rand(2, 4).double(), []
    for copies in (False, True):

        def first_to_all(step, flows, copies=copies):
            given = [flows[0].relevance for _ in flows]
            return [(one.clone() if copies else one,) for one in given]

        torch.manual_seed(0)
        network, rules = with_same(first_to_all)
        options = Options(input_rule="same_as_hidden")
        found.append(explain(network, x, torch.tensor([0, 1]), options, FLOWS, None, rules))
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0


@pytest.mark.parametrize("wrong", [
    lambda step, flows: [(flows[0].relevance,)],
    lambda step, flows: [flow.relevance for flow in flows],
    lambda step, flows: [(flow.relevance, None) for flow in flows],
])  # fmt: skip
def test_a_rule_that_gives_something_else_than_a_tensor_for_each_input_and_flow_is_named(wrong):
    network, rules = with_same(wrong)
    with pytest.raises(rapbench.RapbenchError, match=r"the relevance rule for Same at 2 must give a tuple for each"):
        explain(network, torch.rand(2, 4).double(), torch.tensor([0, 1]), Options(), FLOWS, None, rules)


def test_a_function_that_cannot_be_called_as_a_rule_is_refused_when_it_is_registered():
    def older(step, relevance, kappa):
        return (relevance,)

    with pytest.raises(rapbench.RapbenchError, match=r"takes \(step, flows\), .*older does not: missing .*'kappa'"):
        rule(Same)(older)
    assert Same not in RULES


def test_a_rule_may_hand_out_one_tensor_twice_though_others_overwrite_theirs():
    class Join(nn.Module):
        def forward(self, a, b):
            return a + b

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.a, self.b, self.join, self.head = (
                nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4), Join(), nn.Linear(4, 3),
            )  # fmt: skip

        def forward(self, x):
            x = self.first(x).relu()
            return self.head(self.join(self.a(x), self.b(x)).relu())

    net, x = Net().double(), torch.rand(2, 4).double()
    found = []
    for copies in (False, True):

        @rule(Join)
        def join(step, flows, copies=copies):
            relevance = [flow.relevance for flow in flows]
            return [(one, one.clone() if copies else one) for one in relevance]

        found.append(rapbench.attribute(net, x, 1))
    assert torch.equal(*found)
    assert found[0].abs().sum() > 0
