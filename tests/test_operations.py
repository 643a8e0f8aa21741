"""Every operation of `tests.operations` by every method: its value is right, or the method says what it cannot do."""

import inspect
import re
import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode, get_overridable_functions

import rapbench
from benchmarks.operations import FAMILIES, family, read
from rapbench.methods import methods
from tests.operations import FUNCTIONS, MODULES, NOT_A_FUNCTION_OF_A_SIGNAL, NOT_IN_A_CLASSIFIER, discovered
from tests.options import mostly_quick
from tests.outcomes import CLOSE, LOOKS_AT_MODEL, Wrong, outcome
from tests.propagation import Reference

CASES = {case.name: case for case in MODULES + FUNCTIONS}
every_case = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("RAPBENCH_CACHE", str(tmp_path))


def test_every_module_of_torch_is_a_case_or_has_a_reason_not_to_be():
    """A module that is new in torch fails this until it has its place in tests/operations.py."""
    all_of_torch = {name for name, kind in vars(nn).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    cases = {re.split(r"[ ,(]", case.name.removeprefix("nn."))[0] for case in MODULES}
    left_out = set().union(*NOT_IN_A_CLASSIFIER.values())
    assert cases.isdisjoint(left_out)
    assert cases | left_out == all_of_torch


def test_every_function_of_torch_nn_is_called_by_a_case_or_has_a_reason_not_to_be():
    called = set()

    class Record(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            called.add(function)
            return function(*args, **(kwargs or {}))

    with Record(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for case in CASES.values():
            case.network()
    functions = {function for owner, functions in get_overridable_functions().items()
                 if owner is torch.nn.functional for function in functions}  # fmt: skip
    left_out = set().union(*NOT_A_FUNCTION_OF_A_SIGNAL.values())
    missing = {function.__name__ for function in functions - called} - left_out
    assert sorted(missing) == []


TABLE = read((Path(__file__).parents[1] / "docs/networks.md").read_text())


def test_the_table_in_the_docs_has_every_operation():
    assert sorted(TABLE) == sorted(CASES)


# One method of each family of rules; the others follow in the slow test.
ONE_EACH = ("rap", "rap_aaai", "lrp_a2b1", "attnlrp", "captum_lrp", "deeplift", "guided_backprop", "gradient_x_input",
            "pattern_attribution")  # fmt: skip


def test_each_family_has_its_method():
    assert {family(method) for method in ONE_EACH} == set(FAMILIES)


@every_case
@pytest.mark.parametrize("looked_at", [ONE_EACH, pytest.param(LOOKS_AT_MODEL, marks=pytest.mark.slow)],
                         ids=["one of each family", "all"])  # fmt: skip
def test_a_method_is_right_or_says_what_it_cannot_do(case, looked_at):
    """The table in docs/networks.md says the same; `python -m benchmarks.operations` prints it anew."""
    reference, found, wrong = Reference(case), {name: set() for name in FAMILIES}, []
    for method in looked_at:
        try:
            found[family(method)].add(outcome(reference, method))
        except Wrong as error:
            wrong.append(f"{method}: {error}")
    assert wrong == []
    # no cell has two outcomes: the methods of a family agree, so that one can stand for all
    assert {name: ", ".join(sorted(outcomes)) for name, outcomes in found.items()} == TABLE.get(case.name)


@pytest.mark.slow
@pytest.mark.parametrize("method", mostly_quick(LOOKS_AT_MODEL))
def test_a_method_is_right_or_says_what_it_cannot_do_with_any_function_of_torch(method, everything):
    wrong = []
    for reference in everything:
        try:
            outcome(reference, method)
        except Wrong as error:
            wrong.append(f"{reference.case.name}: {error}")
    assert wrong == []


@pytest.fixture(scope="module")
def everything():
    """A thousand calls of torch's functions and methods."""
    references = [Reference(case) for case in discovered()]
    assert len(references) > 900
    return references


LRP = [method for method in methods if "lrp" in method]
# What lets as little depend on a layer's scale as can be: no epsilon where it is not tiny, no range of pixel values.
OF_NO_SCALE = {"lrp_epsilon": {"stabilizer": 0.0}, "attnlrp": {"stabilizer": 0.0},
               "lrp_epsilon_gamma_box": {"box": "image"}}  # fmt: skip


@pytest.mark.parametrize("method", LRP)
@pytest.mark.parametrize("norm", [lambda: nn.LayerNorm([4, 6, 6]), lambda: nn.GroupNorm(2, 4),
                                  lambda: nn.InstanceNorm2d(4), lambda: nn.RMSNorm([4, 6, 6])])  # fmt: skip
def test_a_scale_that_a_norm_takes_out_changes_nothing(method, norm):
    """The network is the same function at every scale, so its relevance is the same."""

    def relevance(scale: float) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 4, 3), norm(), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5)).double()
        net[0].weight.data *= scale
        net[0].bias.data *= scale
        net[1].eps = 0.0
        x = torch.randn(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        return rapbench.attribute(net, x, 1, method, **OF_NO_SCALE.get(method, {}))

    if method == "captum_lrp":
        with pytest.raises(rapbench.RapbenchError, match=type(norm()).__name__):
            relevance(1.0)
        return
    first, *others = [relevance(scale) for scale in (1.0, 10.0, 1000.0)]
    for other in others:
        assert (other - first).abs().max() < CLOSE * first.abs().max()


@pytest.mark.parametrize(("name", "right"), [
    ("nn.ReLU", True), ("nn.SiLU", False), ("nn.LayerNorm", False), ("torch.square", False), ("F.tanh", False),
])  # fmt: skip
def test_what_is_wrong_is_found(name, right, monkeypatch):
    """Here LRP goes through all that it does not know by the plain gradient; which is right behind ReLU alone."""
    plain = replace(methods["captum_lrp"], function=methods["gradient_x_input"].function)
    monkeypatch.setitem(methods._entries, "captum_lrp", plain)
    reference = Reference(CASES[name])
    if right:
        assert outcome(reference, "captum_lrp") == "exact"
    else:
        with pytest.raises(Wrong, match=r"off by|no right value"):
            outcome(reference, "captum_lrp")
