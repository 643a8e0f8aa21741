"""LRP with Captum's default, the epsilon rule in every layer [bach2015lrp], through Captum.

Captum propagates all relevance of a residual sum to each branch, so that it doubles at every block. Residual sums are
therefore unsupported.
"""

import copy

from captum.attr import LRP
from captum.attr._utils.lrp_rules import EpsilonRule, IdentityRule
from torch import Tensor, nn

from rapbench.methods import methods
from rapbench.methods.adapters.module_graph import affine, hookable
from rapbench.relevance.head import ending
from rapbench.relevance.operations import ACTIVATIONS, Add, Constant


@methods.register("captum_lrp", title="LRP-ε (Captum)", signs=("positive", "negative"), passes=4)
def captum_lrp(model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return relevance by Captum's epsilon rule, with an epsilon of 1e-9.

    Batch norms and poolings distribute relevance in proportion. Activations pass it unchanged.

    Parameters
    ----------
    model : nn.Module
        From (N, C, *space) to (N, classes) logits.
    inputs : Tensor, (N, C, *space)
        Preprocessed.
    targets : Tensor, (N,)
        Class indices.

    Returns
    -------
    Tensor, shaped like `inputs`
        Relevance. It sums to the target logit if there are no biases.

    Raises
    ------
    RapbenchError
        For residual sums and arithmetic, and for modules that are neither affine nor an elementwise activation or max
        pooling.
    """
    takes = (
        "networks without residual sums, at which its relevance explodes, of affine modules, elementwise "
        "activations and max pooling"
    )
    network = hookable(model, inputs, "captum_lrp", takes, _stand_in, arithmetic=False)
    ending(network.network, lambda node: node.all_input_nodes)  # refuses probabilities
    # A copy with its own parameters: Captum writes the whole state back when it has done.
    explainer = LRP(copy.deepcopy(network))
    attribution: Tensor = explainer.attribute(inputs.requires_grad_(), additional_forward_args=targets)
    return attribution.detach()


def _stand_in(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (nn.Identity, nn.modules.dropout._DropoutNd)):
        return nn.Dropout().eval()  # which Captum knows to pass relevance on
    if isinstance(module, (Add, Constant)):
        return None
    pools = type(module) in (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d) and not module.return_indices
    if affine(module) or pools:
        module.rule = EpsilonRule()  # Captum's default, which it does not know for each of these by name
    elif type(module) in ACTIVATIONS:
        module.rule = IdentityRule()  # Captum does so for ReLU and Tanh, and does not know the others
    else:
        return None
    return module
