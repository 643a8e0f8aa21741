"""LRP through Captum [bach2015lrp], [kokhlikyan2020captum]: its epsilon, its gamma or its alpha1-beta0 rule.

Residual sums are Captum's `Addition_Module`, whose epsilon rule shares relevance in proportion. It does so only if each
summand is a tensor that nothing else reads, as in `module_graph`; else Captum counts branches twice. What the relevance
must sum to is therefore counted along and compared at every call.
"""

import copy
from typing import Any, Literal

import torch
from captum.attr import LRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import IdentityRule, PropagationRule
from torch import Tensor, nn

from rapbench.core.errors import RapbenchError
from rapbench.methods import methods
from rapbench.methods.adapters.captum_rules import Alpha1Beta0, Epsilon, Gamma, Ledger
from rapbench.methods.adapters.module_graph import affine, hookable
from rapbench.relevance.head import ending
from rapbench.relevance.linear import LINEAR
from rapbench.relevance.operations import ACTIVATIONS, NORMS, Add, Constant

Rule = Literal["epsilon", "gamma", "alpha1_beta0"]
NormRule = Literal["epsilon", "identity"]
TAKES = "networks of affine modules, residual sums, elementwise activations and max pooling"


@methods.register("captum_lrp", title="LRP (Captum)", signs=("positive", "negative"), passes=9)
def captum_lrp(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    rule: Rule = "epsilon",
    gamma: float = 0.25,
    norm: NormRule = "epsilon",
) -> Tensor:
    """Return relevance by Captum's LRP.

    All that is affine but convolutions, fully connected layers and batch norms has Captum's default, the epsilon rule
    with an epsilon of 1e-9. Activations pass relevance unchanged.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.
    rule : {"epsilon", "gamma", "alpha1_beta0"}
        Of convolutions and fully connected layers: Captum's class of that name. All keep the bias in the denominator.
    gamma : float
        Of the gamma rule, 0 or more: how much positive weights are increased.
    norm : {"epsilon", "identity"}
        Of batch norms: Captum's default, or its rule that passes relevance unchanged.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. It sums to the target logit less the shares of biases and norms.

    Raises
    ------
    RapbenchError
        For arithmetic and for modules that are neither affine nor an elementwise activation or max pooling; for a sum
        with what does not depend on the image; for relevance that does not sum to what the rules promise.
    """
    if not 0 <= gamma < float("inf"):
        raise RapbenchError(f"method 'captum_lrp': gamma={gamma} is no magnitude; set gamma >= 0")
    network = hookable(model, inputs, "captum_lrp", TAKES, _stand_in, arithmetic=False)
    ending(network.network, lambda node: node.all_input_nodes)  # refuses probabilities
    # A copy with its own parameters: Captum writes the whole state back when it has done.
    # Not channels last, where Captum's relevance of one image alone is another than in a batch.
    network, inputs = copy.deepcopy(network).to(memory_format=torch.contiguous_format), inputs.contiguous()
    ledger = Ledger()
    for module in network.network.modules():
        if not list(module.children()):
            _set_rule(module, ledger, rule, gamma, norm)
    explainer = LRP(network)
    gradient = explainer.gradient_func

    def checked(*arguments: Any) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = gradient(*arguments)
        ledger.check(found[0], "captum_lrp")
        return found

    explainer.gradient_func = checked
    attribution: Tensor = explainer.attribute(inputs.requires_grad_(), additional_forward_args=targets)
    return attribution.detach()


def _stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (nn.Identity, nn.modules.dropout._DropoutNd)):
        return nn.Dropout().eval()  # which Captum knows to pass relevance on
    if isinstance(module, Add):
        addition: nn.Module = Addition_Module()
        return addition
    if isinstance(module, Constant):
        return None
    pools = type(module) in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d) and not module.return_indices
    return module if affine(module) or pools or type(module) in ACTIVATIONS else None


def _set_rule(module: nn.Module, ledger: Ledger, rule: Rule, gamma: float, norm: NormRule) -> None:
    """Give a module its rule; Captum's defaults are by type, and it does not know all that are affine."""
    if type(module) is nn.Dropout:
        return
    found: PropagationRule = Epsilon(ledger)
    if type(module) in ACTIVATIONS or (isinstance(module, NORMS) and norm == "identity"):
        found = IdentityRule()  # Captum does so for ReLU and Tanh, and does not know the other activations
    elif isinstance(module, LINEAR) and rule == "gamma":
        found = Gamma(ledger, gamma)
    elif isinstance(module, LINEAR) and rule == "alpha1_beta0":
        found = Alpha1Beta0(ledger)
    module.rule = found
