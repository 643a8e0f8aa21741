"""What a method does with an operation, held against the reference: right, refused by name, or wrong."""

import re
from typing import Any

import torch
from torch import Tensor

import rapbench
from rapbench.methods import methods
from rapbench.patterns import save
from rapbench.patterns.chain import chain
from tests.options import PROPAGATED
from tests.propagation import RAP_OPTIONS, Reference, Refused, Unknown

OPTIONS: dict[str, dict[str, Any]] = {
    "integrated_gradients": {"steps": 2},
    "smoothgrad": {"samples": 1, "noise": 0.0},
    "smoothgrad_squared": {"samples": 1, "noise": 0.0},
    "deeplift_shap": {"references": 1, "noise": 0.0},
    "rap": RAP_OPTIONS,
    "lrp_epsilon_gamma_box": {"box": "image"},
}
# Those that have a rule for operations, or are the gradient. The others ask for logits, or for the gradient at a layer.
OF_OPERATIONS = ("rap", "lrp_", "attnlrp", "captum_lrp", "deeplift", "guided_backprop", "deconvolution", "sensitivity",
                 "gradient_x_input", "integrated_gradients", "smoothgrad", "pattern_")  # fmt: skip
LOOKS_AT_MODEL = [method for method in methods if method.startswith(OF_OPERATIONS)]
CLOSE = 1e-5  # of the largest relevance


class Wrong(AssertionError):
    """A value that is not right, or a refusal that does not say why."""


def outcome(reference: Reference, method: str) -> str:
    """Return "exact" (as the reference), "conserves" (in sum: no more is known), or "unsupported" (refused by name).

    Raises Wrong for all else.
    """
    try:
        want: Tensor | None = reference.relevance(method)
        must_refuse = known = False
        known = want is not None
    except Refused:
        must_refuse, known, want = True, True, None
    except Unknown:
        must_refuse, known, want = False, False, None
    network = reference.case.network()
    options, balance = dict(OPTIONS.get(method, {})), []
    if not known and method in PROPAGATED:
        options = (options if method != "rap" else {}) | {"balance": balance}  # the whole of RAP has a known sum
    try:
        if method.startswith("pattern"):
            _save_trivial_patterns(network, reference.x, method)
        with torch.random.fork_rng():  # what draws is found out, but for one chance in 256 with two maps of four
            torch.manual_seed(0)
            got = rapbench.attribute(network, reference.x, reference.targets, method, **options)
    except rapbench.RapbenchError as error:
        if not re.search(_reasons(reference), str(error)):
            raise Wrong(f"the refusal names neither {reference.case.pattern} nor another reason: {error}") from error
        return "unsupported"
    except Exception as error:
        raise Wrong(f"{type(error).__name__}: {error}") from error
    if must_refuse:
        raise Wrong("has no right value here, and gives one")
    if want is not None:
        error = (got - want).nan_to_num().abs().max() / want.nan_to_num().abs().max().clamp(min=1e-30)
        if not error < CLOSE or not torch.equal(got.isnan(), want.isnan()):
            raise Wrong(f"off by {error:.1e} of the largest")
        return "exact"
    _check_sum(reference, method, got, balance)
    return "conserves"


def _check_sum(reference: Reference, method: str, got: Tensor, balance: list[Any]) -> None:
    logits = reference.logits(reference.x)
    if method in ("deeplift", "deeplift_shap"):
        want = logits - reference.logits(torch.zeros_like(reference.x))
    else:
        assert balance
        start = torch.zeros_like(logits) if method == "rap" else logits
        want = start - sum((entry.dropped for entry in balance), torch.zeros_like(logits))
    # where all is dropped on the way, rounding is what is left
    scale = got.abs().flatten(1).sum(1).clamp(min=1e-30).maximum(1e-6 * logits.abs())
    error = (got.flatten(1).sum(1) - want).abs() / scale
    if not (error < CLOSE).all():
        raise Wrong(f"its sum is off by {error.max():.1e} of all")


def _save_trivial_patterns(network: torch.nn.Module, x: Tensor, method: str) -> None:
    """With these, both methods are the logit times its gradient."""
    with torch.no_grad():
        layers = chain(network).layers
        patterns = {name: layer.weight.detach() if method == "pattern_net" else torch.ones_like(layer.weight)
                    for name, layer in layers.items()}  # fmt: skip
    save(patterns, network)


def _reasons(reference: Reference) -> str:
    """What a refusal must say: the operation, or what else is true of this network."""
    kinds = [layer.kind for layer in reference.layers]
    reasons = [reference.case.pattern]
    if not all(kind.of_image for kind in kinds):
        reasons.append("on the other images in its batch|gives other logits at each call")
    if not all(kind.differentiable for kind in kinds):
        reasons.append("has no gradient with respect to its inputs|the gradient of Around is not that of its logits")
    if not any(kind.rectifier for kind in kinds):
        reasons.append("changed at each ReLU, and Around has none")
    return "|".join(reasons)
