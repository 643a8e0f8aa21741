"""Agreement with zennit, run on its own terms: RAP's normal flow, and our LRP methods; what LRP refuses."""

import gc

import pytest
import torch
from torch import nn
from zennit.composites import LayerMapComposite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Norm, Pass
from zennit.types import Activation, AvgPool, Convolution

import rapbench
from rapbench.methods import methods
from rapbench.relevance.canonical import canonical
from rapbench.relevance.operations import Add
from tests import dense
from tests.conftest import NETWORKS, calibrated
from tests.networks import NETWORKS as KNOWN
from tests.referee import RULES, StackedSum, ours, zennit_lrp, zennits_own

LRP = [method for method in methods if method.startswith("lrp")]
OFF = {"bias_correction": False, "batchnorm_correction": False, "input_rule": "same_as_hidden"}


def composite(convolution, dense, **kwargs):
    layer_map = [(Activation, Pass()), (Sum, Norm(1e-12)), (AvgPool, Norm(1e-12)),
                 (nn.modules.batchnorm._BatchNorm, Pass()), (Convolution, convolution), (nn.Linear, dense)]  # fmt: skip
    return LayerMapComposite(layer_map, **kwargs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_normal_flow_is_zennits_alpha1_beta0_from_the_same_start(name, images, targets):
    network = calibrated(NETWORKS[name](), 32)
    got = rapbench.attribute(network, images, targets, flow="normal", **OFF)

    # zennit down from the last layer's input, with batch norms passing relevance (as RAP's do uncorrected)
    features = canonical(network).graph_module
    last = [node for node in features.graph.nodes if node.op == "call_module"][-1]
    head = features.get_submodule(last.target)
    output = next(node for node in features.graph.nodes if node.op == "output")
    output.args = (last.args[0],)
    features.graph.eliminate_dead_code()
    features.recompile()
    for node in features.graph.nodes:
        if node.op == "call_module" and isinstance(features.get_submodule(node.target), Add):
            features.add_submodule(node.target, StackedSum())
    x = images.clone().requires_grad_()
    rule = AlphaBeta(1, 0, stabilizer=1e-300, zero_params=["bias"])
    with composite(rule, rule).context(features) as modified:
        hidden = modified(x)
        logits = head(hidden.detach()).gather(1, targets[:, None])[:, 0]
        start = torch.stack([
            dense.first_propagation(head.weight[target].detach()[:, None], features, logit[None])
            for target, features, logit in zip(targets.tolist(), hidden.detach(), logits.detach(), strict=True)
        ])  # fmt: skip
        (want,) = torch.autograd.grad(hidden, x, start)
    assert (got - want).abs().max() < 1e-5 * want.abs().max()


@pytest.mark.parametrize("method", LRP)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_composite_is_zennits_with_its_own_canonizers(name, method, images):
    network = calibrated(NETWORKS[name](), 32).float().double()  # a `Model` keeps float32
    want = zennits_own(network, images, 3, method)
    got = ours(network, images, 3, method)
    assert (got - want).abs().max() < 1e-9 * want.abs().max()


HANDLED = ("vgg16", "vgg16_bn", "resnet18", "resnet50", "googlenet", "resnet50_keras", "vgg3d")


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_every_network_is_zennits_or_zennit_does_not_see_it(name):
    case = KNOWN[name]
    network, x = case.network(case.small).float().double(), torch.randn(1, *case.small).double()
    if name not in HANDLED:
        with pytest.raises(rapbench.RapbenchError, match=r"zennit's canonizers merge|zennit sees modules only"):
            zennits_own(network, x, 3, "lrp_epsilon_plus")
        return
    for method in LRP:
        want = zennits_own(network, x, 3, method)
        assert (ours(network, x, 3, method) - want).abs().max() < 1e-5 * want.abs().max()
        gc.collect()  # copies of VGG-16 in float64 have a GB each, and refer to themselves


QUICK = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "timm/seresnet18", "vgg3d")


@pytest.mark.parametrize(("name", "method"), [
    pytest.param(name, method, marks=[] if name in QUICK and method == "lrp_preset_b" else [pytest.mark.slow])
    for name, case in KNOWN.items() for method in RULES if not case.heavy
])  # fmt: skip
def test_lrp_is_zennits_on_our_graph(name, method):
    case = KNOWN[name]
    network, x = case.network(case.small), torch.randn(1, *case.small).double()
    convolution, fully_connected = (make() for make in RULES[method])
    want = zennit_lrp(network, x, 3, convolution, fully_connected)
    got = rapbench.attribute(network, x, 3, method)
    assert (got - want).abs().max() < 1e-9 * want.abs().max()


# method, its options, alpha in the convolution and in the dense layer: None is the epsilon rule with 0.1
DENSE = [
    ("lrp_a1b0", {}, 1, 1), ("lrp_a2b1", {}, 2, 2), ("lrp_alpha_beta", {"alpha": 3.0}, 3, 3),
    ("lrp_alpha_beta", {"alpha": 1.5}, 1.5, 1.5), ("lrp_preset_a", {}, 1, None), ("lrp_preset_b", {}, 2, None),
    ("lrp_epsilon", {}, None, None),
]  # fmt: skip


@pytest.mark.parametrize(("method", "options", "convolution", "fully_connected"), DENSE)
def test_lrp_equals_the_dense_formula_on_a_small_net(method, options, convolution, fully_connected):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)).double()
    x = torch.randn(1, 2, 3, 3).double()
    first = torch.stack([(net[0](e) - net[0](0 * e)).flatten() for e in torch.eye(18).double().view(18, 1, 2, 3, 3)])
    bias = net[0].bias.repeat_interleave(4)
    hidden = net[:3](x)[0]

    def handed(m, weights, bias, relevance, alpha):
        z = m[:, None] * weights
        if alpha is None:
            total = z.sum(0) + bias
            return z / (total + 0.1 * total.sign()) @ relevance
        up = z.clamp(min=0) / (z.clamp(min=0).sum(0) + bias.clamp(min=0))
        down = z.clamp(max=0) / (z.clamp(max=0).sum(0) + bias.clamp(max=0))
        return (alpha * up - (alpha - 1) * torch.nan_to_num(down)) @ relevance

    weights, logits = net[3].weight.T, net(x)[0]
    start = torch.zeros(4).double()
    start[1] = logits[1]
    relevance = handed(hidden, weights, net[3].bias, start, fully_connected)
    want = handed(x.flatten(), first, bias, relevance, convolution)
    got = rapbench.attribute(net, x, [1], method, **options)
    torch.testing.assert_close(got.flatten(), want.detach(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", ["lrp_a1b0", "lrp_a2b1"])
def test_lrp_without_biases_conserves(name, images, targets, method):
    """In networks so wide that each unit has an input of the right sign."""
    network = calibrated(NETWORKS[name](by=1), 32)
    relevance = rapbench.attribute(network, images, targets, method, bias="ignored")
    logits = network(images).gather(1, targets[:, None])[:, 0]
    scale = relevance.abs().flatten(1).sum(1)
    assert ((relevance.flatten(1).sum(1) - logits).abs() < 1e-4 * scale).all()


def test_an_alpha_without_a_beta_is_refused(images):
    network = calibrated(NETWORKS["vgg"](), 32)
    for alpha in (0.5, float("nan"), float("inf")):
        with pytest.raises(rapbench.RapbenchError, match=r"makes beta = alpha - 1 negative|finite number"):
            rapbench.attribute(network, images, 0, "lrp_alpha_beta", alpha=alpha)


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_preset_a", "lrp_preset_b"])
def test_an_epsilon_that_is_no_magnitude_is_refused(images, method):
    network = calibrated(NETWORKS["vgg"](), 32)
    for stabilizer in (-0.1, float("nan"), float("inf")):
        with pytest.raises(rapbench.RapbenchError, match=f"method '{method}': .*(is no magnitude|finite number)"):
            rapbench.attribute(network, images, 0, method, stabilizer=stabilizer)
